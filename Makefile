# Lagoon: `make help` lists what can be made.
# Sources are found by folder: a new .c file needs no line here. Main programs are named *_main.c.

MAKEFLAGS += --no-builtin-rules
.SUFFIXES:
.DELETE_ON_ERROR:

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
VARIANT  := $(if $(SAN),san-$(subst $(comma),-,$(SAN)),$(if $(COVERAGE),coverage,release))
BUILD    ?= build/$(VARIANT)
Q        := $(if $(V),,@)
say       = $(if $(V),,@printf '  %-7s %s\n' '$(1)' '$(2)')

VERSION  := $(shell cat VERSION 2>/dev/null || echo 0.0.0)
PACKAGES := libzmq libprotobuf-c libuv sqlite3 libmicrohttpd yaml-0.1 zlib libxxhash jansson openblas
HAVE_PACKAGES := $(shell pkg-config --exists $(PACKAGES) 2>/dev/null && echo yes)
PKG_CFLAGS := $(shell pkg-config --cflags $(PACKAGES) 2>/dev/null | sed 's/-I/-isystem /g')
PKG_LIBS := $(shell pkg-config --libs $(PACKAGES) 2>/dev/null)
NVCC     ?= $(shell command -v nvcc 2>/dev/null || ls /usr/local/cuda/bin/nvcc 2>/dev/null)

WARN     := -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes \
            -Wundef -Wformat=2 -Wvla -Wwrite-strings $(if $(CI),-Werror)
OPT      := $(if $(COVERAGE),-O0 --coverage,$(if $(SAN),-O1 -fno-omit-frame-pointer,-O3))
# -fno-math-errno lets sqrt vectorise; -ffp-contract=off keeps bits equal over compilers and ISAs (docs/decisions).
CFLAGS_ALL := -std=c11 -D_GNU_SOURCE -g $(OPT) -fno-math-errno -ffp-contract=off -fno-strict-aliasing -pthread \
            $(if $(SAN),-fsanitize=$(SAN) $(if $(findstring undefined,$(SAN)),-fno-sanitize-recover=undefined)) \
            -I. -I$(BUILD)/gen $(PKG_CFLAGS) -DLAGOON_VERSION='"$(VERSION)"' $(CFLAGS)
LDFLAGS_ALL := $(if $(SAN),-fsanitize=$(SAN)) $(if $(COVERAGE),--coverage) -pthread $(LDFLAGS)
LIBS     := $(PKG_LIBS) -lm

# Updater kernels are compiled once per instruction set and picked at start (server/isa.h).
ARCH     := $(shell uname -m)
ifeq ($(ARCH),x86_64)
ISAS     := base avx2 avx512
else
ISAS     := base
endif
ISA_FLAGS_base   :=
ISA_FLAGS_avx2   := -mavx2
ISA_FLAGS_avx512 := -mavx512f -mavx512vl -mavx512bw -mavx512dq -mprefer-vector-width=512

FOLDERS  := common common/math common/codecs client gpu gpu/cpu server server/policies server/coordinator server/http \
            worker worker/models worker/datasets cli bench
KERNELS  := $(wildcard server/updaters/*.c)
SOURCES  := $(wildcard proto/*.c) $(foreach d,$(FOLDERS),$(wildcard $(d)/*.c))
MAINS    := $(filter %_main.c,$(SOURCES))
COMMON   := $(filter-out $(MAINS),$(SOURCES))
GEN      := $(BUILD)/gen/proto/lagoon.pb-c
OBJECTS  := $(COMMON:%.c=$(BUILD)/%.o) $(GEN).o $(foreach i,$(ISAS),$(KERNELS:%.c=$(BUILD)/%.$(i).o))
ARCHIVE  := $(BUILD)/liblagoon-all.a
CLIENT_OBJECTS := $(filter $(BUILD)/common/% $(BUILD)/proto/% $(BUILD)/client/% $(GEN).o,$(OBJECTS))

PROGRAMS := $(addprefix $(BUILD)/bin/,$(if $(wildcard server/server_main.c),lagoon-server) \
            $(if $(wildcard worker/worker_main.c),lagoon-worker) $(if $(wildcard cli/lagoon_main.c),lagoon))
BENCHES  := $(patsubst bench/%_main.c,$(BUILD)/bench/%,$(wildcard bench/*_main.c))
TESTS    := $(patsubst tests/%.c,$(BUILD)/tests/%,$(wildcard tests/unit/*_test.c tests/conformance/*_test.c \
            tests/golden/*_test.c tests/sim/*_test.c))
SUPPORT  := $(patsubst %.c,$(BUILD)/%.o,$(wildcard tests/support/*.c))

.PHONY: all programs tests benches test unit integration quickstart install uninstall lint format format-check layers \
        coverage fuzz clean help packages docs docs-check bench headers gpu results

all: packages programs gpu

packages:
ifneq ($(HAVE_PACKAGES),yes)
	@echo 'make: libraries are missing: scripts/quickstart.sh installs them, or:' >&2
	@echo '  apt-get install $(shell scripts/packages.sh 2>/dev/null)' >&2
	@exit 1
endif

programs: packages $(PROGRAMS) $(if $(SAN)$(COVERAGE),,$(BUILD)/lib/liblagoon.a)
benches: $(BENCHES)
tests: $(TESTS)

# ---- compiling

STAMP := $(BUILD)/flags.stamp
FLAGS_NOW := $(CC) $(CFLAGS_ALL) $(WARN) $(LDFLAGS_ALL)
ifneq ($(shell cat $(STAMP) 2>/dev/null),$(FLAGS_NOW))
$(shell mkdir -p $(BUILD) && printf '%s\n' '$(subst ','\'',$(FLAGS_NOW))' | sed "s/'\\\\''/'/g" > $(STAMP))
endif

$(GEN).c $(GEN).h &: proto/lagoon.proto
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

$(ARCHIVE): $(OBJECTS)
	$(call say,AR,$@)
	$(Q)rm -f $@ && ar rcs $@ $^

$(BUILD)/lib/liblagoon.a: $(CLIENT_OBJECTS)
	@mkdir -p $(@D)
	$(call say,AR,$@)
	$(Q)rm -f $@ && ar rcs $@ $^

define program_rule
$(BUILD)/bin/$(1): $(BUILD)/$(2).o $(ARCHIVE)
	@mkdir -p $$(@D)
	$$(call say,LINK,$$@)
	$$(Q)$$(CC) $$(LDFLAGS_ALL) -o $$@ $$^ $$(LIBS)
endef
$(eval $(call program_rule,lagoon-server,server/server_main))
$(eval $(call program_rule,lagoon-worker,worker/worker_main))
$(eval $(call program_rule,lagoon,cli/lagoon_main))

$(BUILD)/bench/%: $(BUILD)/bench/%_main.o $(ARCHIVE)
	@mkdir -p $(@D)
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $^ $(LIBS)

$(BUILD)/tests/%: $(BUILD)/tests/%.o $(SUPPORT) $(ARCHIVE)
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $^ $(LIBS) $(shell pkg-config --libs check)

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)

# ---- testing

test: all tests ## build and run every test
	$(Q)BUILD=$(BUILD) DATA=$(DATA) tests/run.py

unit: tests ## the Check tests only
	$(Q)BUILD=$(BUILD) DATA=$(DATA) tests/run.py --only unit,conformance,golden,sim

integration: all ## the tests that start real daemons
	$(Q)BUILD=$(BUILD) DATA=$(DATA) tests/run.py --only integration

clean: ## remove what was built
	$(Q)rm -rf build
