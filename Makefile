# Lagoon: `make help` lists what can be made.
# Sources are found by folder: a new .c file needs no line here. Main programs are named *_main.c.

MAKEFLAGS += --no-builtin-rules
.SUFFIXES:
.DELETE_ON_ERROR:
.SECONDARY:

CC       ?= cc
ifeq ($(origin CC),default)
CC       := cc
endif
SAN      ?=
V        ?=
PREFIX   ?= /usr/local
DESTDIR  ?=
DATA     ?= ../shared/data
comma    := ,
empty    :=
space    := $(empty) $(empty)
VARIANT  := $(if $(FUZZ),fuzz,$(if $(SAN),san-$(subst $(comma),-,$(SAN)),$(if $(COVERAGE),coverage,release)))
BUILD    ?= build/$(VARIANT)
Q        := $(if $(V),,@)
say       = $(if $(V),,@printf '  %-7s %s\n' '$(1)' '$(2)')

VERSION  := $(shell cat VERSION 2>/dev/null || echo 0.0.0)
PACKAGES := libzmq libprotobuf-c libuv sqlite3 libmicrohttpd yaml-0.1 zlib libxxhash jansson openblas
HAVE_PACKAGES := $(shell pkg-config --exists $(PACKAGES) 2>/dev/null && command -v protoc-c)
PKG_CFLAGS := $(shell pkg-config --cflags $(PACKAGES) 2>/dev/null | sed 's/-I/-isystem /g')
PKG_LIBS := $(shell pkg-config --libs $(PACKAGES) 2>/dev/null)
CHECK_LIBS = $(shell pkg-config --libs check)

WARN     := -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes \
            -Wundef -Wformat=2 -Wvla -Wwrite-strings $(if $(CI),-Werror)
ifneq ($(FUZZ),)
SAN_FLAGS := -fsanitize=address,undefined -fno-sanitize-recover=undefined
FUZZ_FLAGS := -fsanitize=fuzzer-no-link
else ifneq ($(SAN),)
SAN_FLAGS := -fsanitize=$(SAN) $(if $(findstring undefined,$(SAN)),-fno-sanitize-recover=undefined)
endif
# ThreadSanitizer makes loops over floats 20 times slower, too slow to train with. The device ops split their work by
# index and share nothing else, so it leaves them out; the team that runs them is looked at like everything.
OP_FLAGS := $(if $(findstring thread,$(SAN)),-O3 -fno-sanitize=thread)
OPT      := $(if $(COVERAGE),-O0 --coverage,$(if $(SAN_FLAGS),-O1 -fno-omit-frame-pointer,-O3))
# -fno-math-errno lets sqrt vectorise; -ffp-contract=off keeps bits equal over compilers and ISAs (docs/decisions).
CFLAGS_ALL := -std=c11 -D_GNU_SOURCE -g $(OPT) -fno-math-errno -ffp-contract=off -fno-strict-aliasing -pthread \
            $(SAN_FLAGS) $(FUZZ_FLAGS) -I. -I$(BUILD)/gen $(PKG_CFLAGS) -DLAGOON_VERSION='"$(VERSION)"' $(CFLAGS)
LDFLAGS_ALL := $(SAN_FLAGS) $(if $(COVERAGE),--coverage) -pthread $(LDFLAGS)
LIBS      = $(PKG_LIBS) -ldl -lm

# Updater and codec kernels are compiled once per instruction set and picked at start (common/isa.h).
ARCH     := $(shell uname -m)
ifeq ($(ARCH),x86_64)
ISAS     := base avx2 avx512
else
ISAS     := base
endif
ISA_FLAGS_base   :=
ISA_FLAGS_avx2   := -mavx2
ISA_FLAGS_avx512 := -mavx512f -mavx512vl -mavx512bw -mavx512dq -mprefer-vector-width=512

# The GPU half is a shared object that programs load when they find it (docs/decisions/0011-cuda-is-loaded.md), built
# where nvcc and sources are; CUDA=no leaves it out. Sanitizer builds are for the CPU.
NVCC     ?= $(shell command -v nvcc 2>/dev/null || ls /usr/local/cuda/bin/nvcc 2>/dev/null)
NVCC_ARCH ?= -gencode arch=compute_80,code=sm_80 -gencode arch=compute_90,code=[sm_90,compute_90]
CUDA_SOURCES := $(wildcard gpu/cuda/*.cu)
CUDA     ?= $(if $(NVCC),$(if $(CUDA_SOURCES),$(if $(SAN_FLAGS)$(COVERAGE),no,yes),no),no)
ifeq ($(CUDA),yes)
CUDA_HOME := $(patsubst %/bin/,%,$(dir $(realpath $(NVCC))))
CUDA_OBJECTS := $(CUDA_SOURCES:%.cu=$(BUILD)/%.cu.o)
CUDA_BACKEND := $(BUILD)/lib/lagoon/lagoon-cuda.so
NVCC_FLAGS := -std=c++20 -O3 -I. -DLAGOON_VERSION='"$(VERSION)"' $(NVCC_ARCH) $(if $(CI),-Werror=all-warnings) \
            -Xcompiler -fPIC,-fvisibility=hidden,-Wall,-Wextra
endif
ifeq ($(NVCC),)
CUDA_SAYS := no nvcc: CPU only
else ifeq ($(CUDA),yes)
CUDA_SAYS := nvcc found: $(NVCC), building gpu/cuda
else
CUDA_SAYS := nvcc found: $(NVCC), but gpu/cuda is left out of this build: CPU only
endif

FOLDERS  := common common/math client gpu gpu/cpu server server/policies server/coordinator server/http \
            worker worker/models worker/datasets sim cli bench
KERNELS  := $(wildcard common/updaters/*.c server/compensations/*.c common/codecs/*.c)
SOURCES  := $(wildcard proto/*.c) $(foreach d,$(FOLDERS),$(wildcard $(d)/*.c))
MAINS    := $(filter %_main.c,$(SOURCES))
GEN      := $(BUILD)/gen/proto/lagoon.pb-c
OBJECTS  := $(patsubst %.c,$(BUILD)/%.o,$(filter-out $(MAINS),$(SOURCES))) $(GEN).o \
            $(foreach i,$(ISAS),$(KERNELS:%.c=$(BUILD)/%.$(i).o))
ARCHIVE  := $(BUILD)/liblagoon-all.a
CLIENT_OBJECTS := $(filter $(BUILD)/common/% $(BUILD)/proto/% $(BUILD)/client/% $(GEN).o,$(OBJECTS))

PROGRAMS := $(addprefix $(BUILD)/bin/,$(if $(wildcard server/server_main.c),lagoon-server) \
            $(if $(wildcard worker/worker_main.c),lagoon-worker) $(if $(wildcard cli/lagoon_main.c),lagoon))
LIBRARY  := $(if $(SAN_FLAGS)$(COVERAGE),,$(BUILD)/lib/liblagoon.a)
BENCHES  := $(patsubst bench/%_main.c,$(BUILD)/bench/%,$(wildcard bench/*_main.c))
# What runs the CUDA kernels on the host (tests/gpu/emulate.h) needs a C++ compiler and x86-64; ThreadSanitizer knows
# no fibers.
# Each fiber would get a second stack for use after return, at two system calls each.
EMULATED_CODE := -fPIC -fvisibility=hidden $(SAN_FLAGS) $(if $(findstring address,$(SAN)),$(if $(findstring clang,$(CC)), \
    -fsanitize-address-use-after-return=never,--param asan-use-after-return=0))
CXX_FOUND := $(shell command -v $(if $(findstring clang,$(CC)),clang++,g++) 2>/dev/null)
EMULATED := $(if $(CXX_FOUND),$(if $(findstring thread,$(SAN))$(filter-out x86_64,$(ARCH)),,$(wildcard tests/gpu/emulated_*_test.c)))
# The same as a backend beside copies of the programs, with a driver that says there are GPUs: what integration tests
# start as workers with GPUs. Nothing of it is installed.
EMULATED_HOME := $(BUILD)/tests/gpu/emulated
EMULATED_TREE := $(if $(EMULATED),$(EMULATED_HOME)/lib/lagoon/lagoon-cuda.so $(EMULATED_HOME)/driver/libcuda.so.1 \
    $(EMULATED_HOME)/driver/libnvidia-ml.so.1 \
    $(patsubst $(BUILD)/%,$(EMULATED_HOME)/%,$(PROGRAMS)))
TESTS    := $(patsubst %.c,$(BUILD)/%,$(foreach k,unit conformance golden sim,$(wildcard tests/$(k)/*_test.c)) \
            $(filter-out tests/gpu/emulated_%,$(wildcard tests/gpu/*_test.c)) $(EMULATED))
FUZZERS  := $(patsubst %.c,$(BUILD)/%,$(wildcard tests/fuzz/*_fuzz.c))
SUPPORT_OBJECTS := $(patsubst %.c,$(BUILD)/%.o,$(wildcard tests/support/*.c))
SUPPORT  := $(BUILD)/tests/support.a
HEADERS  := $(filter-out build/% tests/gpu/emulate.h,$(wildcard *.h */*.h */*/*.h))
C_FILES  := $(filter-out build/% tests/gpu/emulated_%_test.c,$(wildcard */*.c */*/*.c))

.PHONY: all packages programs tests benches fuzzers test unit integration quickstart install uninstall lint lint-files \
        lint-tools format format-check layers coverage fuzz bench docs docs-check help clean

all: packages gpu-says programs ## the programs and the client library (the default)

packages:
ifeq ($(HAVE_PACKAGES),)
	@echo 'make: libraries or protoc-c are missing: scripts/quickstart.sh installs them, or:' >&2
	@echo "  apt-get install $$(scripts/packages.sh build | tr '\n' ' ')" >&2
	@exit 1
endif

.PHONY: gpu-says
gpu-says: packages
	@echo '$(CUDA_SAYS)'

ifneq ($(filter test tests unit integration coverage,$(MAKECMDGOALS)),)
ifneq ($(HAVE_PACKAGES),)
ifeq ($(shell pkg-config --exists check && command -v python3),)
$(error check or python3 is missing: scripts/test.sh installs them, or: apt-get install $(shell scripts/packages.sh test))
endif
endif
endif

programs: packages $(PROGRAMS) $(LIBRARY) $(CUDA_BACKEND)
benches: packages $(BENCHES)
tests: packages $(TESTS) $(CUDA_BACKEND) $(EMULATED_TREE)
fuzzers: packages $(FUZZERS)

# ---- compiling

# Changed flags rebuild everything; an added or removed file rebuilds the archive.
STAMP := $(BUILD)/flags.stamp
OBJECTS_STAMP := $(BUILD)/objects.stamp
FLAGS_NOW := $(filter-out -Werror%,$(CC) $(CFLAGS_ALL) $(WARN) $(LDFLAGS_ALL) $(OP_FLAGS) $(NVCC_FLAGS) $(EMULATED_CODE))
NO_BUILD := clean help format format-check layers lint-tools uninstall coverage fuzz quickstart
ifneq ($(filter-out $(NO_BUILD),$(or $(MAKECMDGOALS),all)),)
$(shell mkdir -p $(BUILD))
ifneq ($(file < $(STAMP)),$(FLAGS_NOW))
$(file > $(STAMP),$(FLAGS_NOW))
endif
ifneq ($(file < $(OBJECTS_STAMP)),$(OBJECTS) $(SUPPORT_OBJECTS))
$(file > $(OBJECTS_STAMP),$(OBJECTS) $(SUPPORT_OBJECTS))
endif
-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
endif

$(STAMP) $(OBJECTS_STAMP):
	@mkdir -p $(@D) && touch $@

$(GEN).c $(GEN).h &: proto/lagoon.proto | packages
	@mkdir -p $(BUILD)/gen
	$(call say,PROTOC,$<)
	$(Q)protoc-c --c_out=$(BUILD)/gen $<

$(GEN).o: $(GEN).c $(STAMP)
	$(call say,CC,$<)
	$(Q)$(CC) $(CFLAGS_ALL) -c -o $@ $<

define isa_rule
$(BUILD)/%.$(1).o: %.c $(STAMP)
	@mkdir -p $$(@D)
	$$(call say,CC,$$< ($(1)))
	$$(Q)$$(CC) $$(CFLAGS_ALL) $$(WARN) $$(ISA_FLAGS_$(1)) -DLG_ISA=$(1) -DLG_ISA_IS_$(1)=1 -MMD -MP -c -o $$@ $$<
endef
$(foreach i,$(ISAS),$(eval $(call isa_rule,$(i))))

$(BUILD)/%.o: %.c $(STAMP) | $(GEN).h
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(CFLAGS_ALL) $(WARN) -MMD -MP -c -o $@ $<

$(filter-out %/cpu.o %/team.o,$(patsubst %.c,$(BUILD)/%.o,$(wildcard gpu/cpu/*.c))): CFLAGS_ALL += $(OP_FLAGS)

# Codecs give the same bits as on the CPU: no multiplication is made one with an addition.
$(BUILD)/gpu/cuda/codec%.cu.o: NVCC_FLAGS += -fmad=false

$(BUILD)/%.cu.o: %.cu $(STAMP)
	@mkdir -p $(@D)
	$(call say,NVCC,$<)
	$(Q)$(NVCC) $(NVCC_FLAGS) -MD -MF $(@:.o=.d) -c -o $@ $<

$(BUILD)/common/%.pic.o: common/%.c $(STAMP)
	@mkdir -p $(@D)
	$(call say,CC,$< (pic))
	$(Q)$(CC) $(CFLAGS_ALL) $(WARN) -fPIC -fvisibility=hidden -MMD -MP -c -o $@ $<

# CUDA's runtime is inside; cuBLAS is found where this toolkit is, beside the backend, or where the system looks.
$(BUILD)/lib/lagoon/lagoon-cuda.so: $(CUDA_OBJECTS) $(BUILD)/common/status.pic.o
	@mkdir -p $(@D)
	$(call say,LINK,$@)
	$(Q)$(NVCC) -shared -cudart static -o $@ $^ -L$(CUDA_HOME)/lib64 -lcublas \
	    -Xlinker -rpath,'$$ORIGIN:$(CUDA_HOME)/lib64',--exclude-libs=ALL,-z,defs

EMULATED_OBJECTS := $(CUDA_SOURCES:%.cu=$(BUILD)/emulated/%.o) \
    $(patsubst %.cc,$(BUILD)/emulated/%.o,$(wildcard tests/gpu/*.cc))
EMULATED_FLAGS = -std=c++20 -g -O2 $(EMULATED_CODE) -Wall -Wextra -Wno-unknown-pragmas -fno-exceptions -fno-rtti \
    -ffp-contract=off -fno-strict-aliasing -I. -DLAGOON_VERSION='"$(VERSION)"' -include tests/gpu/emulate.h
$(BUILD)/emulated/%.o: %.cu $(STAMP)
	@mkdir -p $(@D)
	$(call say,CXX,$< (emulated))
	$(Q)$(CXX_FOUND) $(EMULATED_FLAGS) -MMD -MP -c -o $@ -x c++ $<

$(BUILD)/emulated/%.o: %.cc $(STAMP)
	@mkdir -p $(@D)
	$(call say,CXX,$<)
	$(Q)$(CXX_FOUND) $(EMULATED_FLAGS) -MMD -MP -c -o $@ $<

$(EMULATED:%.c=$(BUILD)/%): $(BUILD)/%: $(BUILD)/%.o $(BUILD)/tests/gpu/emulated_load.o $(EMULATED_OBJECTS) \
    $(SUPPORT) $(ARCHIVE)
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $^ $(CHECK_LIBS) $(LIBS)

$(EMULATED_HOME)/lib/lagoon/lagoon-cuda.so: $(EMULATED_OBJECTS) $(BUILD)/common/status.pic.o
	@mkdir -p $(@D)
	$(call say,LINK,$@)
	$(Q)$(CXX_FOUND) -shared $(LDFLAGS_ALL) $(if $(SAN_FLAGS),,-Wl$(comma)-z$(comma)defs) -o $@ $^

$(EMULATED_HOME)/driver/libcuda.so.1: tests/gpu/emulated_driver.c $(STAMP)
	@mkdir -p $(@D)
	$(call say,LINK,$@)
	$(Q)$(CC) $(CFLAGS_ALL) $(WARN) -fPIC -shared $(LDFLAGS_ALL) -o $@ $<

# A management library of no GPUs at all; also for the agent's own tests.
FAKE_NVML := $(EMULATED_HOME)/driver/libnvidia-ml.so.1
$(FAKE_NVML): tests/gpu/fake_nvml.c $(STAMP)
	@mkdir -p $(@D)
	$(call say,LINK,$@)
	$(Q)$(CC) $(CFLAGS_ALL) $(WARN) -fPIC -shared $(LDFLAGS_ALL) -o $@ $<
$(BUILD)/tests/unit/agent_devices_test: | $(FAKE_NVML)

# Not symbolic links: programs look for the backend where they themselves lie.
$(EMULATED_HOME)/bin/%: $(BUILD)/bin/%
	@mkdir -p $(@D)
	$(Q)ln -f $< $@ 2>/dev/null || cp $< $@

$(ARCHIVE): $(OBJECTS) $(OBJECTS_STAMP)
	$(call say,AR,$@)
	$(Q)rm -f $@ && ar rcs $@ $(OBJECTS)

$(BUILD)/lib/liblagoon.a: $(CLIENT_OBJECTS) $(OBJECTS_STAMP)
	@mkdir -p $(@D)
	$(call say,AR,$@)
	$(Q)rm -f $@ && ar rcs $@ $(CLIENT_OBJECTS)

define program_rule
$(BUILD)/bin/$(1): $(BUILD)/$(2).o $(ARCHIVE)
	@mkdir -p $$(@D)
	$$(call say,LINK,$$@)
	$$(Q)$$(CC) $$(LDFLAGS_ALL) -o $$@ $$^ $$(LIBS)
endef
$(eval $(call program_rule,lagoon-server,server/server_main))
$(eval $(call program_rule,lagoon-worker,worker/worker_main))
$(eval $(call program_rule,lagoon,cli/lagoon_main))

# An archive, so that a test or fuzzer links only what it uses of it.
$(SUPPORT): $(SUPPORT_OBJECTS) $(OBJECTS_STAMP)
	@mkdir -p $(@D)
	$(Q)rm -f $@ && ar rcs $@ $(SUPPORT_OBJECTS)

$(BUILD)/bench/%: $(BUILD)/bench/%_main.o $(ARCHIVE)
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $^ $(LIBS)

$(BUILD)/tests/fuzz/%: $(BUILD)/tests/fuzz/%.o $(SUPPORT) $(ARCHIVE)
	$(call say,LINK,$@)
	$(Q)$(CC) -fsanitize=fuzzer $(LDFLAGS_ALL) -o $@ $^ $(CHECK_LIBS) $(LIBS)

$(BUILD)/tests/%: $(BUILD)/tests/%.o $(SUPPORT) $(ARCHIVE)
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $^ $(CHECK_LIBS) $(LIBS)

# ---- testing

test: all tests ## build and run every test (SAN=address,undefined or SAN=thread: under sanitizers)
	$(Q)BUILD=$(BUILD) DATA=$(DATA) python3 tests/run.py

unit: tests ## the Check tests only
	$(Q)BUILD=$(BUILD) DATA=$(DATA) python3 tests/run.py --only unit,conformance,golden,sim

integration: all $(EMULATED_TREE) ## the tests that start real daemons; FILTER=name picks files
	$(Q)BUILD=$(BUILD) DATA=$(DATA) python3 tests/run.py --only integration $(if $(FILTER),--filter $(FILTER))

coverage: ## run the tests on a gcov build, then print the lines covered per file
	$(Q)$(MAKE) --no-print-directory COVERAGE=1 CC=gcc test
	$(Q)python3 scripts/coverage.py build/coverage

FUZZ_SECONDS ?= 60
fuzz: ## fuzz each tests/fuzz/*_fuzz.c for FUZZ_SECONDS (60) under ASan and UBSan; needs clang
	$(Q)scripts/fuzz.sh $(FUZZ_SECONDS)

BENCH    ?=
bench: all ## measure this machine's limits and Lagoon beside them (BENCH=--quick: only what the bars need)
	$(Q)$(BUILD)/bin/lagoon bench $(BENCH)

# ---- checking the sources. Each file's result is kept, so a second run looks at what changed.

lint: ## clang-tidy, cppcheck, banned functions, headers that compile alone
	$(Q)$(MAKE) --no-print-directory lint-tools
	$(Q)$(MAKE) --no-print-directory $(if $(filter -j%,$(MAKEFLAGS)),,-j$(shell nproc)) lint-files
	@echo 'lint: nothing found'

lint-tools:
	$(Q)scripts/need.sh clang-tidy clang-tidy cppcheck cppcheck $(CC) gcc

LINT_FLAGS := -std=c11 -D_GNU_SOURCE -I. -I$(BUILD)/gen $(PKG_CFLAGS) -DLAGOON_VERSION='"0"'
TIDY_RULES := .clang-tidy tests/.clang-tidy bench/.clang-tidy
TIDIED   := $(patsubst %,$(BUILD)/lint/%.tidy,$(C_FILES))
ALONE    := $(patsubst %,$(BUILD)/lint/%.alone,$(HEADERS))

lint-files: $(TIDIED) $(ALONE) $(BUILD)/lint/cppcheck.ok $(BUILD)/lint/banned.ok

$(BUILD)/lint/%.tidy: % $(TIDY_RULES) $(HEADERS) $(GEN).h
	@mkdir -p $(@D)
	$(call say,TIDY,$<)
	$(Q)clang-tidy --quiet --warnings-as-errors='*' $< -- $(LINT_FLAGS) -DLG_ISA=base -DLG_ISA_IS_base=1 2>$@.log \
	    || { grep -v 'warnings generated' $@.log; exit 1; }
	$(Q)touch $@

$(BUILD)/lint/%.h.alone: %.h $(HEADERS) $(GEN).h
	@mkdir -p $(@D)
	$(call say,HEADER,$<)
	$(Q)printf '#include "%s"\n' $< | $(CC) $(LINT_FLAGS) $(WARN) -Werror -fsyntax-only -x c -
	$(Q)touch $@

$(BUILD)/lint/cppcheck.ok: $(C_FILES) $(HEADERS) scripts/cppcheck.txt $(GEN).h
	@mkdir -p $(@D)/cppcheck
	$(call say,CPPCHK,$(words $(C_FILES)) files)
	$(Q)cppcheck --quiet --std=c11 --language=c --enable=warning,portability --inline-suppr --error-exitcode=1 \
	    --suppressions-list=scripts/cppcheck.txt --cppcheck-build-dir=$(@D)/cppcheck -D_GNU_SOURCE -DLG_ISA=base \
	    -DLG_ISA_IS_base=1 -I. $(C_FILES)
	$(Q)touch $@

$(BUILD)/lint/banned.ok: $(C_FILES) $(HEADERS) scripts/banned.sh
	@mkdir -p $(@D)
	$(Q)scripts/banned.sh $(C_FILES) $(HEADERS)
	$(Q)touch $@

FORMATTED := $(C_FILES) $(HEADERS) $(wildcard gpu/cuda/*.cu gpu/cuda/*.cuh tests/gpu/*.cc tests/gpu/emulate.h tests/gpu/emulated_*_test.c)
format: ## format all sources in place
	$(Q)scripts/need.sh clang-format clang-format
	$(Q)clang-format -i $(FORMATTED)

format-check: ## fail where a source is not formatted
	$(Q)scripts/need.sh clang-format clang-format
	$(Q)clang-format --dry-run -Werror $(FORMATTED)

layers: ## check which folders include which (common below proto below the rest)
	$(Q)scripts/need.sh python3 python3
	$(Q)python3 scripts/layers.py

# ---- documents made from the tables in the programs

docs: all ## docs/configuration.md, docs/metrics.md and docs/cli.md, from the tables in the programs
	$(Q)scripts/docs.sh write $(BUILD)/bin/lagoon docs

docs-check: all ## fail where those pages are older than the tables
	$(Q)scripts/docs.sh check $(BUILD)/bin/lagoon docs

# ---- installing

INSTALLED := $(DESTDIR)$(PREFIX)
install: all ## programs, library, header, man pages, examples, under DESTDIR and PREFIX (/usr/local)
	$(Q)install -d $(addprefix $(INSTALLED)/,bin lib/pkgconfig include/lagoon/common share/lagoon)
	$(Q)install -m 755 $(PROGRAMS) $(INSTALLED)/bin
	$(Q)install -m 644 $(LIBRARY) $(INSTALLED)/lib
ifneq ($(CUDA_BACKEND),)
	$(Q)install -D -m 755 -t $(INSTALLED)/lib/lagoon $(CUDA_BACKEND)
endif
	$(Q)install -m 644 client/lagoon.h $(INSTALLED)/include/lagoon
	$(Q)install -m 644 common/status.h common/status.def common/tensor.h common/block.h \
	    common/codec.h common/isa.h $(INSTALLED)/include/lagoon/common
	$(Q)sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@VERSION@|$(VERSION)|' scripts/lagoon.pc.in \
	    > $(INSTALLED)/lib/pkgconfig/lagoon.pc
	$(Q)[ ! -d configs ] || cp -R configs $(INSTALLED)/share/lagoon/
	$(Q)scripts/docs.sh man $(BUILD)/bin/lagoon $(INSTALLED)/share/man
	@echo 'installed under $(INSTALLED)'

uninstall: ## remove what install put there
	$(Q)rm -f $(addprefix $(INSTALLED)/bin/,lagoon lagoon-server lagoon-worker) $(INSTALLED)/lib/liblagoon.a \
	    $(INSTALLED)/lib/lagoon/lagoon-cuda.so \
	    $(INSTALLED)/lib/pkgconfig/lagoon.pc $(addprefix $(INSTALLED)/share/man/,man1/lagoon.1 man5/lagoon-job.5 man8/lagoon-server.8 man8/lagoon-worker.8)
	$(Q)rm -rf $(INSTALLED)/include/lagoon $(INSTALLED)/share/lagoon

quickstart: ## install what is missing, build, run the demo
	$(Q)scripts/quickstart.sh

clean: ## remove what was built
	$(Q)rm -rf build

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo '  variables: CC=$(CC) SAN= PREFIX=$(PREFIX) DESTDIR= DATA=$(DATA) V=1 CI=1 CUDA=no FUZZ_SECONDS=$(FUZZ_SECONDS)'
	@echo '  $(CUDA_SAYS)'
