#include "cli/cluster.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <jansson.h>
#include <pwd.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cli/table.h"
#include "gpu/device.h"

enum { START_TIMEOUT_MS = 15000, POLL_MS = 10, ARGS_MAX = 32 };

static int64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void pause_ms(int ms) {
    nanosleep(&(struct timespec){ms / 1000, (long)(ms % 1000) * 1000000}, NULL);
}

static void member_path(const struct cluster *cluster, const char *name, const char *ending, char *path) {
    snprintf(path, CLUSTER_PATH_BYTES, "%.400s/%.64s.%s", cluster->dir, name, ending);
}

/* ---- processes */

/* Field 22 of /proc/PID/stat; 0 when there is no such process (or only its zombie). */
static unsigned long long start_time(pid_t pid) {
    char path[64], text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "r");
    if (!file)
        return 0;
    size_t size = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[size] = '\0';
    char *at = strrchr(text, ')');
    if (!at || at[1] != ' ' || at[2] == 'Z')
        return 0;
    at += 2;
    for (int field = 3; field < 22 && at; field++)
        at = strchr(at + 1, ' ');
    return at ? strtoull(at, NULL, 10) : 0;
}

bool cluster_member_alive(const struct cluster_member *member) {
    waitpid(member->pid, NULL, WNOHANG);
    unsigned long long started = start_time(member->pid);
    return started != 0 && started == member->started;
}

struct cluster_member *cluster_find(struct cluster *cluster, const char *name) {
    for (size_t i = 0; i < cluster->count; i++)
        if (strcmp(cluster->members[i].name, name) == 0)
            return &cluster->members[i];
    return NULL;
}

/* The daemon beside this program. */
static void sibling(const char *program, char path[CLUSTER_PATH_BYTES]) {
    ssize_t size = readlink("/proc/self/exe", path, CLUSTER_PATH_BYTES - 32);
    path[size > 0 ? size : 0] = '\0';
    char *slash = strrchr(path, '/');
    strncpy(slash ? slash + 1 : path, program, 31);
}

/* In the child: own session, log file, then the daemon. */
static void become(const struct cluster *cluster, const char *name, char *const *argv, bool attached, pid_t parent) {
    char log[CLUSTER_PATH_BYTES];
    member_path(cluster, name, "log", log);
    setsid();
    if (attached) {
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        if (getppid() != parent)
            _exit(127);
    }
    int in = open("/dev/null", O_RDONLY), out = open(log, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (in < 0 || out < 0 || dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0)
        _exit(127);
    execv(argv[0], argv);
    dprintf(2, "cannot run %s: %s\n", argv[0], strerror(errno));
    _exit(127);
}

static enum lg_status spawn(struct cluster *cluster, const char *name, char *const *argv, bool attached,
                            struct lg_error *error) {
    char ready[CLUSTER_PATH_BYTES];
    member_path(cluster, name, "ready", ready);
    remove(ready);
    if (access(argv[0], X_OK) != 0)
        return lg_fail(error, LG_NOT_FOUND, "\"%s\" is missing; it belongs beside `lagoon`: build or install it",
                       argv[0]);
    pid_t parent = getpid(), pid = fork();
    if (pid < 0)
        return lg_fail(error, LG_IO, "cannot start %s: %s", name, strerror(errno));
    if (pid == 0)
        become(cluster, name, argv, attached, parent);
    struct cluster_member *member = &cluster->members[cluster->count++];
    *member = (struct cluster_member){.pid = pid, .started = start_time(pid)};
    snprintf(member->name, sizeof member->name, "%s", name);
    return LG_OK;
}

/* The last line of a daemon's log, for error messages. */
static void last_log_line(const struct cluster *cluster, const char *name, char *line, size_t bytes) {
    char path[CLUSTER_PATH_BYTES], text[4096];
    member_path(cluster, name, "log", path);
    line[0] = '\0';
    FILE *file = fopen(path, "r");
    if (!file)
        return;
    if (fseek(file, -(long)(sizeof text - 1), SEEK_END) != 0)
        rewind(file);
    size_t size = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    while (size > 0 && text[size - 1] == '\n')
        size--;
    text[size] = '\0';
    char *start = strrchr(text, '\n');
    snprintf(line, bytes, "%.*s", (int)bytes - 1, start ? start + 1 : text);
}

/* Waits for DIR/NAME.ready and reads it. */
static enum lg_status await_ready(struct cluster *cluster, struct cluster_member *member, json_t **document,
                                  struct lg_error *error) {
    char path[CLUSTER_PATH_BYTES], line[300];
    int64_t deadline = now_ms() + START_TIMEOUT_MS;
    member_path(cluster, member->name, "ready", path);
    while (access(path, R_OK) != 0) {
        bool alive = cluster_member_alive(member);
        if (alive && now_ms() < deadline) {
            pause_ms(POLL_MS);
            continue;
        }
        last_log_line(cluster, member->name, line, sizeof line);
        return lg_fail(error, alive ? LG_TIMEOUT : LG_IO, "%s %s: %s", member->name,
                       alive ? "is not ready after 15 s" : "ended at its start", line);
    }
    *document = json_load_file(path, 0, NULL);
    if (!*document)
        return lg_fail(error, LG_IO, "cannot read \"%s\"", path);
    snprintf(member->http, sizeof member->http, "%s", field_text(*document, "http", ""));
    return LG_OK;
}

/* ---- starting */

struct command_line {
    char text[ARGS_MAX][CLUSTER_PATH_BYTES];
    char *argv[ARGS_MAX + 1];
    int count;
};

static void add(struct command_line *line, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void add(struct command_line *line, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(line->text[line->count], CLUSTER_PATH_BYTES, format, args);
    va_end(args);
    line->argv[line->count] = line->text[line->count];
    line->argv[++line->count] = NULL;
}

static struct command_line *command_line(const struct cluster *cluster, const char *program, const char *name) {
    struct command_line *line = calloc(1, sizeof *line);
    if (!line)
        abort();
    sibling(program, line->text[0]);
    line->argv[line->count++] = line->text[0];
    add(line, "--name=%s", name);
    add(line, "--ready_file=%s/%s.ready", cluster->dir, name);
    return line;
}

static enum lg_status start_coordinator(struct cluster *cluster, const struct cluster_plan *plan,
                                        struct lg_error *error) {
    struct command_line *line = command_line(cluster, "lagoon-server", "coordinator");
    add(line, "--role=coordinator");
    add(line, "--bind=127.0.0.1:%d", plan->coordinator_port);
    add(line, "--data_dir=%s/coordinator", cluster->dir);
    add(line, "--liveness.dead_after=%s", plan->dead_after);
    enum lg_status status = spawn(cluster, "coordinator", line->argv, plan->attached, error);
    free(line);
    json_t *ready = NULL;
    if (status == LG_OK)
        status = await_ready(cluster, &cluster->members[0], &ready, error);
    if (status == LG_OK)
        snprintf(cluster->coordinator, sizeof cluster->coordinator, "%s", field_text(ready, "endpoint", ""));
    json_decref(ready);
    return status;
}

static enum lg_status start_server(struct cluster *cluster, const struct cluster_plan *plan, int number,
                                   struct lg_error *error) {
    char name[32];
    snprintf(name, sizeof name, "server%d", number);
    struct command_line *line = command_line(cluster, "lagoon-server", name);
    add(line, "--coordinator=%s", cluster->coordinator);
    add(line, "--shards.count=%d", plan->shards);
    if (plan->messages)
        add(line, "--no-shards.local");
    enum lg_status status = spawn(cluster, name, line->argv, plan->attached, error);
    free(line);
    return status;
}

void cluster_share_devices(const char *device, unsigned gpus, int workers, int number, char text[OPTION_TEXT_BYTES]) {
    unsigned mine = (unsigned)number - 1, every = (unsigned)workers;
    size_t used = 0;
    snprintf(text, OPTION_TEXT_BYTES, "%s", device);
    if (strncmp(device, "auto", 4) != 0 || gpus == 0 || workers < 2)
        return;
    for (unsigned gpu = gpus < every ? mine % gpus : mine; gpu < gpus && used < OPTION_TEXT_BYTES; gpu += every)
        used +=
            (size_t)snprintf(text + used, OPTION_TEXT_BYTES - used, "%scuda:%u%.16s", used ? "," : "", gpu, device + 4);
}

static enum lg_status start_worker(struct cluster *cluster, const struct cluster_plan *plan, int number,
                                   struct lg_error *error) {
    char name[32];
    snprintf(name, sizeof name, "worker%d", number);
    struct command_line *line = command_line(cluster, "lagoon-worker", name);
    add(line, "--coordinator=%s", cluster->coordinator);
    add(line, "--slots=%d", plan->slots);
    if (plan->device) {
        char devices[OPTION_TEXT_BYTES];
        cluster_share_devices(plan->device, device_gpu_count(), plan->workers, number, devices);
        add(line, "--device=%s", devices);
    }
    if (plan->slowdowns)
        add(line, "--slowdown=%g", plan->slowdowns[number - 1]);
    if (plan->data_root[0])
        add(line, "--data_root=%s", plan->data_root);
    enum lg_status status = spawn(cluster, name, line->argv, plan->attached, error);
    free(line);
    return status;
}

static enum lg_status make_folder(const char *dir, struct lg_error *error) {
    if (mkdir(dir, 0755) == 0 || errno == EEXIST)
        return LG_OK;
    return lg_fail(error, LG_IO, "cannot make the folder \"%s\": %s", dir, strerror(errno));
}

enum lg_status cluster_start(struct cluster *cluster, const char *dir, const struct cluster_plan *plan,
                             struct lg_error *error) {
    *cluster = (struct cluster){0};
    snprintf(cluster->dir, sizeof cluster->dir, "%s", dir);
    if (1 + plan->servers + plan->workers > CLUSTER_MEMBERS_MAX)
        return lg_fail(error, LG_INVALID, "a local cluster may have %d daemons at most", CLUSTER_MEMBERS_MAX);
    enum lg_status status = make_folder(dir, error);
    if (status == LG_OK)
        status = start_coordinator(cluster, plan, error);
    for (int i = 1; status == LG_OK && i <= plan->servers; i++)
        status = start_server(cluster, plan, i, error);
    for (int i = 1; status == LG_OK && i <= plan->workers; i++)
        status = start_worker(cluster, plan, i, error);
    for (size_t i = 1; status == LG_OK && i < cluster->count; i++) {
        json_t *ready = NULL;
        status = await_ready(cluster, &cluster->members[i], &ready, error);
        json_decref(ready);
    }
    if (status != LG_OK)
        cluster_stop(cluster, 2000);
    return status;
}

/* ---- stopping */

static bool await_end(const struct cluster_member *member, int64_t deadline_ms) {
    while (cluster_member_alive(member)) {
        if (now_ms() >= deadline_ms)
            return false;
        pause_ms(POLL_MS);
    }
    return true;
}

/* Stops the members whose name begins with `prefix`, all at once. */
static int stop_group(struct cluster *cluster, const char *prefix, int grace_ms) {
    int killed = 0;
    int64_t deadline = now_ms() + grace_ms;
    for (size_t i = 0; i < cluster->count; i++) {
        struct cluster_member *member = &cluster->members[i];
        if (strncmp(member->name, prefix, strlen(prefix)) == 0 && cluster_member_alive(member))
            kill(member->pid, SIGTERM);
    }
    for (size_t i = 0; i < cluster->count; i++) {
        struct cluster_member *member = &cluster->members[i];
        if (strncmp(member->name, prefix, strlen(prefix)) != 0 || await_end(member, deadline))
            continue;
        kill(member->pid, SIGKILL);
        await_end(member, now_ms() + 2000);
        killed++;
    }
    return killed;
}

int cluster_stop(struct cluster *cluster, int grace_ms) {
    int killed = stop_group(cluster, "worker", grace_ms);
    killed += stop_group(cluster, "server", grace_ms);
    return killed + stop_group(cluster, "coordinator", grace_ms);
}

/* ---- remembering */

enum lg_status cluster_save(const struct cluster *cluster, struct lg_error *error) {
    char path[CLUSTER_PATH_BYTES];
    snprintf(path, sizeof path, "%.480s/cluster.json", cluster->dir);
    json_t *members = json_array();
    for (size_t i = 0; i < cluster->count; i++) {
        const struct cluster_member *member = &cluster->members[i];
        json_array_append_new(members, json_pack("{s:s, s:i, s:I, s:s}", "name", member->name, "pid", (int)member->pid,
                                                 "started", (json_int_t)member->started, "http", member->http));
    }
    json_t *document = json_pack("{s:s, s:o}", "coordinator", cluster->coordinator, "members", members);
    char *text = document ? json_dumps(document, JSON_INDENT(2)) : NULL;
    enum lg_status status = text ? daemon_write_ready(path, text, error)
                                 : lg_fail(error, LG_NO_MEMORY, "no memory to remember the cluster");
    free(text);
    json_decref(document);
    return status;
}

static int remove_entry(const char *path, const struct stat *about, int kind, struct FTW *place) {
    (void)about, (void)kind, (void)place;
    return remove(path);
}

void cluster_remove_folder(const char *dir) {
    if (nftw(dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS) != 0)
        cli_complain(CLI_EXIT_FAILED, "cannot remove \"%s\": %s", dir, strerror(errno));
}

enum lg_status cluster_load(struct cluster *cluster, const char *dir, struct lg_error *error) {
    char path[CLUSTER_PATH_BYTES];
    *cluster = (struct cluster){0};
    snprintf(cluster->dir, sizeof cluster->dir, "%s", dir);
    snprintf(path, sizeof path, "%.480s/cluster.json", dir);
    if (access(path, F_OK) != 0)
        return lg_fail(error, LG_NOT_FOUND, "no local cluster is remembered in \"%s\"", dir);
    json_t *document = json_load_file(path, 0, NULL);
    if (!document)
        return lg_fail(error, LG_MALFORMED, "cannot read \"%s\"; delete it once no daemon of it runs any more", path);
    snprintf(cluster->coordinator, sizeof cluster->coordinator, "%s", field_text(document, "coordinator", ""));
    size_t i;
    json_t *entry;
    json_array_foreach(json_object_get(document, "members"), i, entry) {
        if (cluster->count == CLUSTER_MEMBERS_MAX)
            break;
        struct cluster_member *member = &cluster->members[cluster->count++];
        snprintf(member->name, sizeof member->name, "%s", field_text(entry, "name", ""));
        snprintf(member->http, sizeof member->http, "%s", field_text(entry, "http", ""));
        member->pid = (pid_t)field_integer(entry, "pid", 0);
        member->started = (unsigned long long)field_integer(entry, "started", 0);
    }
    json_decref(document);
    return LG_OK;
}

void cluster_forget(const struct cluster *cluster) {
    char path[CLUSTER_PATH_BYTES];
    snprintf(path, sizeof path, "%.480s/cluster.json", cluster->dir);
    remove(path);
}

/* ---- finding */

static void default_state_dir(char *dir, size_t bytes) {
    const char *home = getenv("HOME");
    const struct passwd *user = home && home[0] ? NULL : getpwuid(getuid());
    snprintf(dir, bytes, "%s/.lagoon", home && home[0] ? home : user ? user->pw_dir : "/tmp");
}

enum lg_status cluster_resolve(struct cli *cli, struct lg_error *error) {
    struct cluster cluster;
    if (cli->globals.state_dir[0])
        snprintf(cli->state_dir, sizeof cli->state_dir, "%s", cli->globals.state_dir);
    else
        default_state_dir(cli->state_dir, sizeof cli->state_dir);
    snprintf(cli->coordinator, sizeof cli->coordinator, "%s",
             cli->globals.coordinator[0] ? cli->globals.coordinator : "127.0.0.1:7710");
    if (cli->globals.coordinator[0])
        return LG_OK;
    struct lg_error missing;
    enum lg_status status = cluster_load(&cluster, cli->state_dir, &missing);
    if (status == LG_OK && cluster.coordinator[0])
        snprintf(cli->coordinator, sizeof cli->coordinator, "%s", cluster.coordinator);
    (void)error;
    return LG_OK;
}
