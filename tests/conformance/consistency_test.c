/* Every consistency mode with every staleness policy and every updater: what is allowed trains, in the simulator, a
 * mixture of Gaussians about as well as workers that are never stale; what is not is refused with the reason.
 *
 * All three come from their registries. "About as well" is at most ALLOWANCE below the synchronous accuracy of the same
 * updater: that of the same workers taking turns, who make as many updates from the same batches, none of them stale.
 * (One worker with the batch of all is the other one that could be meant. That is bsp, which is below it here.)
 *
 * Three things are made equal, by rules for all combinations:
 *
 *   - Policies that weigh make steps smaller on average, which a lower rate does too: the rate is divided by the mean
 *     weight of the pushes that were applied, as measured with the mode and policy. Compensations weigh 1.
 *   - Rounds that not all pushes are part of, and policies that drop, give samples up: these runs go through the data
 *     more often, by the share that is given up. In backup and rennala that is up to a half.
 *   - Modes that make one step of k pushes make fewer: the rate is greater, as the updater's entry in `rates` says.
 *
 * LAGOON_SEED=n chooses the combinations that a build with sanitizers tries. */
#include <check.h>
#include <inttypes.h>
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "client/job.h"
#include "common/log.h"
#include "common/updater.h"
#include "server/policy.h"
#include "sim/simulation.h"
#include "tests/support/sanitizer.h"

/* One combination in STRIDE is tried. Their number is a product of small numbers, so that a prime reaches all of them
 * over time. */
#if defined(__SANITIZE_ADDRESS__)
enum { STRIDE = 11 };
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
enum { STRIDE = 11 };
#else
enum { STRIDE = 1 };
#endif
#else
enum { STRIDE = 1 };
#endif

enum {
    WORKERS = 4,
    PUSHES = 3,
    SEEDS = 3,
    SAMPLES = 4000,
    EPOCHS = 10,
    CONTROL_EPOCHS = 4,
    BATCH = 16,
    PROCESSES_MAX = 16,
    WORST = 5
};

#define ALLOWANCE 0.02
#define SYNCHRONOUS_LEAST 0.86 /* else the rate in `rates` or the updater is wrong, and the bar is none */

#define PROBLEM                                                                                                        \
    "model.kind=mlp;model.hidden=16;dataset.kind=mixture;dataset.components=20;dataset.features=16;dataset.spread=1;"  \
    "dataset.train_samples=4000;dataset.test_samples=2000;train.batch=16;lr.schedule=cosine;"                          \
    "sim.workers=1,2x1.5,1x4;sim.step.distribution=lognormal;sim.step.sigma=0.3;sim.evaluate.every=1000000000;"

/* The rate of workers in turns, and how it grows with the k pushes that a mode averages: as k^growth. Sums of gradients
 * grow with k; updaters that divide by their size want less. */
static const struct {
    const char *updater;
    double rate, growth;
} rates[] = {
    {"sgd", 0.2, 1},       {"momentum", 0.02, 1},   {"nesterov", 0.02, 1}, {"delayed-nesterov", 0.15, 1},
    {"adagrad", 0.2, 0.5}, {"rmsprop", 0.015, 0.5}, {"adam", 0.02, 0.5},   {"adamw", 0.02, 0.5},
    {"lion", 0.004, 0.5},
};

/* What became of a run's pushes. */
struct given {
    double applied; /* share of them that was */
    double weight;  /* mean of those */
};

/* One run. What comes out is written by another process: trials lie in memory that is shared. */
struct trial {
    const struct consistency *mode;
    const struct policy *policy;
    const struct updater *updater;
    bool in_turns;
    uint64_t seed;
    double rate;
    unsigned epochs;

    bool begun, done;
    enum lg_status status;
    char text[sizeof((struct lg_error *)0)->message]; /* why it was refused, or how it ended */
    double accuracy;
    struct given given;
    uint64_t samples, dropped; /* applied or given up; pushes of weight 0, whose samples are not among them */
};

/* ---- one run */

static void set(struct config *config, const char *key, const char *value) {
    struct lg_error error = {0};
    ck_assert_msg(config_set(config, key, value, "test", &error) == LG_OK, "%s", error.message);
}

static void set_all(struct config *config, const char *text) {
    char copy[1024], *rest = NULL;
    snprintf(copy, sizeof copy, "%s", text);
    for (char *pair = strtok_r(copy, ";", &rest); pair; pair = strtok_r(NULL, ";", &rest)) {
        char *equals = strchr(pair, '=');
        *equals = '\0';
        set(config, pair, equals + 1);
    }
}

static struct config *job_of(const struct trial *trial) {
    struct config *config = config_new();
    char text[64];
    set(config, "consistency.mode", trial->mode->name);
    set(config, "staleness.policy", trial->policy->name);
    set(config, "updater.kind", trial->updater->name);
    snprintf(text, sizeof text, "%.17g", trial->rate);
    set(config, "lr.base", text);
    snprintf(text, sizeof text, "%u", trial->epochs);
    set(config, "train.epochs", text);
    snprintf(text, sizeof text, "%d", PUSHES);
    if (consistency_has(trial->mode, CONSISTENCY_TAKES_PUSHES))
        set(config, "consistency.pushes", text);
    if (consistency_has(trial->mode, CONSISTENCY_TAKES_BOUND))
        set(config, "consistency.bound", "1");
    if (consistency_has(trial->mode, CONSISTENCY_TAKES_BOUND_MOST))
        set(config, "consistency.bound_most", "4");
    return config;
}

static struct given given_of(const struct spread *spread) {
    double pushes = (double)spread->pushes, applied = pushes - (double)spread->weight_bins[0];
    return (struct given){applied / pushes, spread->weight_sum / applied};
}

static void run_trial(struct trial *trial) {
    struct config *config = job_of(trial);
    struct sim_outcome outcome;
    struct lg_error error = {0};
    set_all(config, PROBLEM);
    if (trial->in_turns)
        set(config, "sim.sequential", "yes");
    const struct sim_setup setup = {.config = config, .seed = trial->seed};
    trial->begun = true;
    trial->status = simulate(&setup, &outcome, &error);
    snprintf(trial->text, sizeof trial->text, "%s", trial->status == LG_OK ? outcome.end : error.message);
    if (trial->status == LG_OK) {
        trial->accuracy = outcome.diverged ? 0 : outcome.curve[outcome.curve_count - 1].accuracy;
        trial->given = given_of(&outcome.spread);
        trial->samples = outcome.samples;
        trial->dropped = outcome.dropped;
    }
    sim_outcome_deinit(&outcome);
    config_free(config);
    trial->done = true;
}

/* ---- many runs, on all cores */

struct trials {
    atomic_size_t next;
    size_t count;
    struct trial items[];
};

static struct trials *trials_new(size_t most) {
    size_t bytes = sizeof(struct trials) + most * sizeof(struct trial);
    struct trials *trials = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(trials, MAP_FAILED);
    return trials;
}

static void trials_free(struct trials *trials, size_t most) {
    munmap(trials, sizeof(struct trials) + most * sizeof(struct trial));
}

static const char *name_of(const struct trial *trial, char *text, size_t bytes) {
    snprintf(text, bytes, "mode %s, policy %s, updater %s%s, rate %.4g, %u epochs, seed %" PRIu64, trial->mode->name,
             trial->policy->name, trial->updater->name, trial->in_turns ? ", in turns" : "", trial->rate, trial->epochs,
             trial->seed);
    return text;
}

static void run_trials(struct trials *trials) {
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    pid_t processes[PROCESSES_MAX];
    long count = cores < 1 ? 1 : cores > PROCESSES_MAX ? PROCESSES_MAX : cores;
    fflush(NULL);
    for (long i = 0; i < count; i++) {
        processes[i] = fork();
        ck_assert_int_ge(processes[i], 0);
        if (processes[i] > 0)
            continue;
        for (size_t at = atomic_fetch_add(&trials->next, 1); at < trials->count;
             at = atomic_fetch_add(&trials->next, 1))
            run_trial(&trials->items[at]);
        fflush(NULL);
        _exit(EXIT_SUCCESS);
    }
    for (long i = 0; i < count; i++)
        waitpid(processes[i], NULL, 0);
    for (size_t i = 0; i < trials->count; i++) {
        char text[256];
        ck_assert_msg(trials->items[i].done, "%s: the process %s", name_of(&trials->items[i], text, sizeof text),
                      trials->items[i].begun ? "ended in the middle of it" : "never came to it");
    }
}

/* ---- combinations */

struct registries {
    const struct consistency *modes;
    const struct policy *const *policies;
    const struct updater *const *updaters;
    size_t mode_count, policy_count, updater_count;
};

static struct registries registries(void) {
    struct registries all;
    all.modes = consistencies(&all.mode_count);
    all.policies = policies(&all.policy_count);
    all.updaters = updaters(&all.updater_count);
    return all;
}

static size_t rate_of(const struct updater *updater) {
    for (size_t i = 0; i < sizeof rates / sizeof *rates; i++)
        if (strcmp(rates[i].updater, updater->name) == 0)
            return i;
    ck_abort_msg("updater \"%s\" has no entry in `rates` of this test: add one with the rate that suits it",
                 updater->name);
}

static double gathered(const struct consistency *mode) {
    if (!consistency_has(mode, CONSISTENCY_GATHERS))
        return 1;
    return consistency_has(mode, CONSISTENCY_TAKES_PUSHES) ? PUSHES : WORKERS;
}

/* As `lagoon submit` and the coordinator check it. */
static bool is_allowed(const struct trial *trial) {
    struct config *config = job_of(trial);
    struct job_config job;
    const struct policy *policy;
    const struct updater *updater;
    double policy_values[POLICY_PARAMS_MAX], updater_values[UPDATER_PARAMS_MAX];
    struct lg_error error = {0};
    enum lg_status status = job_configure(config, &job, &error);
    if (status == LG_OK)
        status = updater_configure(config, &updater, updater_values, &error);
    if (status == LG_OK)
        status = policy_configure(config, &policy, policy_values, &error);
    if (status == LG_OK)
        status = policy_check(policy, config, job.pipeline, &error);
    config_free(config);
    return status == LG_OK;
}

/* What says nothing in particular must go with everything, else all could be refused and this test pass. */
static void expect_allowed(const struct trial *trial) {
    char text[256];
    if (trial->mode->flags == 0 || strcmp(trial->policy->name, "constant") == 0)
        ck_abort_msg("%s is refused", name_of(trial, text, sizeof text));
}

static void expect_refused(const struct trial *trial) {
    char text[256], policy[96], mode[96];
    name_of(trial, text, sizeof text);
    snprintf(policy, sizeof policy, "staleness policy \"%s\"", trial->policy->name);
    if (!strstr(trial->text, policy))
        snprintf(policy, sizeof policy, "staleness.policy \"%s\"", trial->policy->name);
    snprintf(mode, sizeof mode, "consistency.mode \"%s\"", trial->mode->name);
    ck_assert_msg(trial->status == LG_INVALID, "%s: the check refuses it, and submit says %d: %s", text,
                  (int)trial->status, trial->text);
    ck_assert_msg(strstr(trial->text, policy) && strstr(trial->text, mode), "%s is refused without saying why: %s",
                  text, trial->text);
}

static uint64_t seed_of_this_run(void) {
    const char *seed = getenv("LAGOON_SEED");
    return seed ? strtoull(seed, NULL, 10) : (uint64_t)time(NULL);
}

/* ---- what the combinations are compared with */

/* accuracy[updater]: the same workers in turns; given[mode x policies + policy]: what became of pushes. */
struct controls {
    double *accuracy;
    struct given *given;
};

static struct controls controls_run(const struct registries *all) {
    size_t pairs = all->mode_count * all->policy_count, most = all->updater_count * SEEDS + pairs;
    struct controls controls = {calloc(all->updater_count, sizeof(double)), calloc(pairs, sizeof(struct given))};
    struct trials *trials = trials_new(most);
    const struct policy *constant = NULL;
    ck_assert_int_eq(policy_find("constant", &constant, NULL), LG_OK);
    for (size_t u = 0; u < all->updater_count; u++)
        for (uint64_t seed = 1; seed <= SEEDS; seed++)
            trials->items[trials->count++] = (struct trial){.mode = consistency_find("async"),
                                                            .policy = constant,
                                                            .updater = all->updaters[u],
                                                            .in_turns = true,
                                                            .seed = seed,
                                                            .epochs = EPOCHS,
                                                            .rate = rates[rate_of(all->updaters[u])].rate};
    for (size_t i = 0; i < pairs; i++)
        trials->items[trials->count++] = (struct trial){.mode = &all->modes[i / all->policy_count],
                                                        .policy = all->policies[i % all->policy_count],
                                                        .updater = all->updaters[0],
                                                        .seed = 1,
                                                        .epochs = CONTROL_EPOCHS,
                                                        .rate = 1e-3};
    run_trials(trials);
    for (size_t i = 0; i < all->updater_count * SEEDS; i++) {
        ck_assert_msg(trials->items[i].status == LG_OK, "%s", trials->items[i].text);
        controls.accuracy[i / SEEDS] += trials->items[i].accuracy / SEEDS;
    }
    for (size_t u = 0; u < all->updater_count; u++)
        ck_assert_msg(controls.accuracy[u] >= SYNCHRONOUS_LEAST,
                      "updater \"%s\" reaches %.2f %% with workers in turns, %.0f %% are expected",
                      all->updaters[u]->name, 100 * controls.accuracy[u], 100 * SYNCHRONOUS_LEAST);
    for (size_t i = 0; i < pairs; i++)
        controls.given[i] = trials->items[all->updater_count * SEEDS + i].given;
    trials_free(trials, most);
    return controls;
}

/* ---- the test */

struct verdict {
    const struct trial *first; /* of SEEDS */
    double accuracy, margin;   /* above what is asked for */
};

static int by_margin(const void *a, const void *b) {
    double x = ((const struct verdict *)a)->margin, y = ((const struct verdict *)b)->margin;
    return (x > y) - (x < y);
}

/* Adds the trials of one combination. */
static void add_trials(struct trials *trials, const struct registries *all, const struct controls *controls, size_t m,
                       size_t p, size_t u, bool *allowed) {
    struct trial trial = {.mode = &all->modes[m], .policy = all->policies[p], .updater = all->updaters[u]};
    size_t entry = rate_of(trial.updater);
    struct given given = controls->given[m * all->policy_count + p];
    trial.rate = rates[entry].rate * pow(gathered(trial.mode), rates[entry].growth);
    trial.epochs = EPOCHS;
    *allowed = is_allowed(&trial);
    if (*allowed) {
        trial.rate /= given.weight;
        trial.epochs = (unsigned)ceil(EPOCHS / given.applied - 0.05);
    } else {
        expect_allowed(&trial);
    }
    for (trial.seed = 1; trial.seed <= (*allowed ? SEEDS : 1); trial.seed++)
        trials->items[trials->count++] = trial;
}

static struct verdict judge(const struct trial *first, double synchronous) {
    struct verdict verdict = {.first = first};
    char text[256];
    for (int i = 0; i < SEEDS; i++) {
        name_of(&first[i], text, sizeof text);
        ck_assert_msg(first[i].status == LG_OK, "%s is allowed, and fails: %s", text, first[i].text);
        ck_assert_msg(strcmp(first[i].text, "all epochs are done") == 0, "%s: %s", text, first[i].text);
        uint64_t samples = SAMPLES * (uint64_t)first[i].epochs;
        ck_assert_msg(first[i].samples + BATCH * first[i].dropped >= samples &&
                          first[i].samples + first[i].dropped <= samples,
                      "%s: %" PRIu64 " samples of %" PRIu64 ", and %" PRIu64 " pushes dropped", text, first[i].samples,
                      samples, first[i].dropped);
        verdict.accuracy += first[i].accuracy / SEEDS;
    }
    verdict.margin = verdict.accuracy - (synchronous - ALLOWANCE);
    return verdict;
}

static size_t report(struct verdict *verdicts, size_t count) {
    size_t failed = 0;
    char text[256];
    qsort(verdicts, count, sizeof *verdicts, by_margin);
    for (size_t i = 0; i < count && (i < WORST || verdicts[i].margin < 0); i++) {
        failed += verdicts[i].margin < 0;
        printf("%s: %s: accuracy %.2f %%, %+.2f points from what is asked for\n",
               verdicts[i].margin < 0 ? "FAILED" : "closest", name_of(verdicts[i].first, text, sizeof text),
               100 * verdicts[i].accuracy, 100 * verdicts[i].margin);
    }
    return failed;
}

START_TEST(what_is_allowed_trains_and_the_rest_is_refused) {
    SKIP_WHERE_THREADS_ARE_WATCHED();
    const struct registries all = registries();
    const struct controls controls = controls_run(&all);
    size_t combinations = all.mode_count * all.policy_count * all.updater_count, allowed_count = 0, refused = 0;
    size_t trained = 0;
    uint64_t seed = seed_of_this_run();
    struct trials *trials = trials_new(combinations * SEEDS);
    struct verdict *verdicts = calloc(combinations, sizeof *verdicts);
    for (size_t i = seed % STRIDE; i < combinations; i += STRIDE) {
        bool allowed;
        size_t u = i % all.updater_count, p = i / all.updater_count % all.policy_count;
        add_trials(trials, &all, &controls, i / all.updater_count / all.policy_count, p, u, &allowed);
        allowed_count += allowed;
    }
    run_trials(trials);
    for (size_t i = 0; i < trials->count;) {
        const struct trial *trial = &trials->items[i];
        size_t u = 0;
        if (!is_allowed(trial)) {
            expect_refused(trial);
            refused++;
            i++;
            continue;
        }
        while (all.updaters[u] != trial->updater)
            u++;
        verdicts[trained++] = judge(trial, controls.accuracy[u]);
        i += SEEDS;
    }
    printf("%zu combinations: %zu of them tried (every %d., LAGOON_SEED=%" PRIu64 "), %zu train, %zu are refused\n",
           combinations, trained + refused, STRIDE, seed, trained, refused);
    ck_assert_uint_eq(trained, allowed_count);
    size_t failed = report(verdicts, trained);
    free(verdicts);
    free(controls.accuracy);
    free(controls.given);
    trials_free(trials, combinations * SEEDS);
    ck_assert_msg(failed == 0, "%zu of %zu combinations do not reach the synchronous accuracy - %g points", failed,
                  trained, 100 * ALLOWANCE);
}
END_TEST

int main(void) {
    log_init("test", LOG_LEVEL_ERROR);
    Suite *suite = suite_create("consistency");
    TCase *tests = tcase_create("consistency");
    tcase_set_timeout(tests, 600);
    tcase_add_test(tests, what_is_allowed_trains_and_the_rest_is_refused);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
