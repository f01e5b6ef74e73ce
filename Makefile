# SPDX-License-Identifier: MIT
# GNU make. `make` on a fresh clone runs autoconf, ./configure and the build; `make help` lists the rest.
#
#: make                  configure if need be, build build/harkd (V=1 shows the commands)
#: make install          DESTDIR=... for packaging; make uninstall takes it away again
#: make check            everything the project tests, set-up included (STEPS="unit system": only these)
#: make unit             the unit tests (VARIANT=asan: with sanitizers; make memcheck: under valgrind)
#: make system           the system tests, against RabbitMQ
#: make fuzz             each fuzz target for FUZZ_TIME=60 seconds; make fuzz-replay: the committed seeds
#: make bench            the benchmark
#: make demo             see it work
#: make listener NAME=x  write a new listener module and its test
#: make format           also format-check, tidy
#: make dist             hark-VERSION.tar.gz of what is committed
#: make setup            install the Debian packages that build and tests need
#: make clean            also distclean, which forgets what configure found
#
# The build knows variants, each in a folder of its own, so that they never rebuild each other:
#   plain  build/         what configure chose
#   gcc    build/gcc      that compiler, warnings are errors; `make check` builds these three
#   clang  build/clang
#   asan   build/asan     gcc with AddressSanitizer and UndefinedBehaviorSanitizer
#   tsan   build/tsan     ThreadSanitizer
#   fuzz   build/fuzz     clang with libFuzzer
# Choose one with VARIANT=asan. CC, CPPFLAGS, CFLAGS, LDFLAGS and LIBS are the user's.

.DELETE_ON_ERROR:
.SECONDARY:
.DEFAULT_GOAL := all
MAKEFLAGS += --no-builtin-rules

# These goals need nothing that configure finds.
unconfigured := help clean distclean setup check demo listener format format-check
goals := $(or $(MAKECMDGOALS),all)
configured := $(filter-out $(unconfigured),$(goals))

ifneq ($(configured),)
include src/config.mk
endif

# ---- configure ----

configure: configure.ac
	@command -v autoconf >/dev/null || { echo 'autoconf is missing. As root, make setup, or only what the build needs:' >&2; \
		tests/tools/setup --missing build >&2; exit 1; }
	autoconf

configured: src/config.mk
# A second run repeats the options of the first one.
src/config.mk: src/config.mk.in configure
	@if test -f config.status; then ./config.status --recheck && ./config.status; \
	else ./configure $(CONFIGURE_ARGS); fi

# ---- variants ----

VARIANT ?= plain
B := build$(if $(filter-out plain,$(VARIANT)),/$(VARIANT))
strict := -Werror
sanitizers := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer

ifeq ($(VARIANT),plain)
  strict :=
else ifeq ($(VARIANT),gcc)
  CC := gcc
else ifeq ($(VARIANT),clang)
  CC := clang
else ifeq ($(VARIANT),asan)
  CC := gcc
  CFLAGS := -O1 -g
  CHECKED := 1
  variant_flags := $(sanitizers)
else ifeq ($(VARIANT),tsan)
  CC := gcc
  CFLAGS := -O1 -g
  CHECKED := 1
  variant_flags := -fsanitize=thread
else ifeq ($(VARIANT),fuzz)
  CC := clang
  CFLAGS := -O1 -g
  CHECKED := 1
  variant_flags := $(sanitizers) -fsanitize=fuzzer-no-link
else
  $(error VARIANT=$(VARIANT): there are plain, gcc, clang, asan, tsan and fuzz)
endif

# ---- flags ----

warnings := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wcast-qual \
	-Wwrite-strings -Wvla
HARK_CFLAGS := -std=gnu11 -pthread $(warnings) $(strict)
HARK_CPPFLAGS := -D_GNU_SOURCE $(if $(CHECKED),-DHARK_CHECKED=1) -Iinclude $(LIBRARY_CFLAGS)
paths := -DHARK_VERSION='"$(VERSION)"' -DHARK_CONFIGURATION='"$(sysconfdir)/hark/hark.ini"'

compile = $(CC) $(HARK_CFLAGS) $(HARK_CPPFLAGS) $(1) $(CPPFLAGS) $(CFLAGS) $(variant_flags) -MMD -MP -c -o $@ $<
link = $(CC) $(HARK_CFLAGS) $(CFLAGS) $(variant_flags) $(LDFLAGS) -o $@ $(1) $(LIBRARY_LIBS) $(LIBS)

# make V=1 shows whole commands.
say = @$(if $(V),,printf '  %-6s %s\n' '$(1)' '$@';)
run = $(if $(V),,@)

# ---- sources ----

# Listeners: "all" is every file of src/listeners; a path is a file from elsewhere.
here := $(sort $(patsubst src/listeners/%.c,%,$(wildcard src/listeners/*.c)))
listeners := $(sort $(patsubst all,$(here),$(filter-out %.c,$(LISTENERS))) $(if $(filter all,$(LISTENERS)),$(here)))
listeners := $(filter-out all,$(listeners))
elsewhere := $(filter %.c,$(LISTENERS))
modules := $(listeners) $(notdir $(elsewhere:.c=))

sources := $(sort $(filter-out src/main.c src/listeners/%,$(shell find src -name '*.c')))
objects := $(sources:%.c=$(B)/%.o) $(listeners:%=$(B)/src/listeners/%.o) $(B)/modules.o \
	$(foreach f,$(elsewhere),$(B)/elsewhere/$(notdir $(f:.c=.o)))
main := $(wildcard src/main.c)

# tests/unit/check_*.c are programs; other files there are for them to share. The test of a listener
# that is not compiled in is not built.
absent := $(filter-out $(modules),$(here))
checks := $(filter-out $(foreach m,$(absent),tests/unit/check_listener_$(subst -,_,$(m)).c), \
	$(sort $(wildcard tests/unit/check_*.c)))
checks := $(checks:%.c=$(B)/%)
check_kit := $(patsubst %.c,$(B)/%.o,$(filter-out tests/unit/check_%,$(wildcard tests/unit/*.c)))
fuzzers := $(patsubst %.c,$(B)/%,$(sort $(wildcard tests/fuzz/fuzz_*.c)))
replays := $(fuzzers:$(B)/tests/fuzz/fuzz_%=$(B)/tests/fuzz/replay_%)
benches := $(addprefix $(B)/bench/,stub rabbitmq_loop queues latency dispatch load store)
# Listeners that only the system tests need (one that crashes, one that hangs): build/.../harkd-trouble has them.
trouble := $(sort $(wildcard tests/system/modules/*.c))

# ---- build ----

.PHONY: all tests unit memcheck system fuzz fuzz-replay bench headers FORCE
all: $(B)/libhark.a $(if $(main),$(B)/harkd)

# What is built depends on the flags and on the list of files, not only on the files: both stand in files that
# change when they do.
keep = @mkdir -p $(@D); printf '%s\n' $(1) >$@.new; \
	if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi
quote = '$(subst ','\'',$(1))'

$(B)/flags: FORCE
	$(call keep,$(call quote,$(CC) $(HARK_CFLAGS) $(HARK_CPPFLAGS) $(paths) $(CPPFLAGS) $(CFLAGS) $(variant_flags)) \
		$(call quote,$(LDFLAGS) $(LIBRARY_LIBS) $(LIBS)))
$(B)/objects: FORCE
	$(call keep,$(objects))

# modules_table(names): the C text of the table of listener modules.
modules_table = '/* Generated by make from the chosen listeners. */' \
	'\#include <hark/listener.h>' 'extern const struct hark_module *const hark_modules[];' \
	$(foreach m,$(subst -,_,$(1)),'extern const struct hark_module hark_module_$(m);') \
	'const struct hark_module *const hark_modules[] = {' \
	$(foreach m,$(subst -,_,$(1)),'    &hark_module_$(m),') '    NULL,' '};'

$(B)/modules.c: FORCE
	$(call keep,$(call modules_table,$(modules)))

$(B)/libhark.a: $(objects) $(B)/objects
	$(call say,AR)
	$(run)rm -f $@ && $(AR) rcs $@ $(objects)

$(B)/harkd: $(B)/src/main.o $(B)/libhark.a
	$(call say,LINK)
	$(run)$(call link,$^)

# The archive's own table is not pulled in, since this one is there first.
$(B)/harkd-trouble: $(B)/src/main.o $(B)/modules-trouble.o $(trouble:%.c=$(B)/%.o) $(B)/libhark.a
	$(call say,LINK)
	$(run)$(call link,$^)
$(B)/modules-trouble.c: FORCE
	$(call keep,$(call modules_table,$(modules) $(notdir $(trouble:.c=))))

# A listener sees the public headers only.
listener_objects := $(listeners:%=$(B)/src/listeners/%.o) $(trouble:%.c=$(B)/%.o)
$(listener_objects): $(B)/%.o: %.c $(B)/flags
	@mkdir -p $(@D)
	$(call say,CC)
	$(run)$(call compile,)
define elsewhere_rule
$(B)/elsewhere/$(notdir $(1:.c=.o)): $(1) $(B)/flags
	@mkdir -p $$(@D)
	$$(call say,CC)
	$$(run)$$(call compile,)
endef
$(foreach f,$(elsewhere),$(eval $(call elsewhere_rule,$(f))))

$(B)/src/%.o: src/%.c $(B)/flags
	@mkdir -p $(@D)
	$(call say,CC)
	$(run)$(call compile,-Isrc $(paths))
$(B)/tests/%.o: tests/%.c $(B)/flags
	@mkdir -p $(@D)
	$(call say,CC)
	$(run)$(call compile,-Isrc -Itests $(CHECK_CFLAGS))
$(B)/modules%.o: $(B)/modules%.c $(B)/flags
	$(call say,CC)
	$(run)$(call compile,)
$(B)/modules.o: $(B)/modules.c $(B)/flags
	$(call say,CC)
	$(run)$(call compile,)

-include $(addsuffix .d,$(basename $(objects) $(B)/src/main.o $(B)/modules-trouble.o $(check_kit) \
	$(checks:=.o) $(fuzzers:=.o) $(patsubst %.c,$(B)/%.o,$(wildcard tests/bench/*.c)) $(B)/tests/fuzz/replay.o $(trouble:%.c=$(B)/%.o)))

# ---- tests ----

# Everything that the tests run, built in this variant.
tests: all $(checks) $(if $(main),$(if $(trouble),$(B)/harkd-trouble))

# An archive, too: a program gets only what it uses, so it may put something else in the place of the rest.
$(B)/tests/unit/kit.a: $(check_kit)
	$(call say,AR)
	$(run)rm -f $@ && $(AR) rcs $@ $^
$(checks): %: %.o $(B)/tests/unit/kit.a $(B)/libhark.a
	$(if $(filter yes,$(HAVE_CHECK)),,$(error the unit tests need libcheck: apt-get install -y check && ./configure))
	$(call say,LINK)
	$(run)$(call link,$^ $(CHECK_LIBS))
$(replays): $(B)/tests/fuzz/replay_%: $(B)/tests/fuzz/fuzz_%.o $(B)/tests/fuzz/replay.o $(B)/libhark.a
	$(call say,LINK)
	$(run)$(call link,$^)
$(fuzzers): %: %.o $(B)/libhark.a
	$(call say,LINK)
	$(run)$(call link,-fsanitize=fuzzer $^)
$(B)/bench/stub: $(B)/tests/bench/stub_peer.o $(B)/tests/bench/stub_window.o
$(B)/bench/load: $(patsubst %.c,$(B)/%.o,$(wildcard tests/bench/load_*.c))
$(benches): $(B)/bench/%: $(B)/tests/bench/%.o $(B)/libhark.a
	@mkdir -p $(@D)
	$(call say,LINK)
	$(run)$(call link,$(filter %.o,$^) $(filter %.a,$^))

unit: $(checks)
	@tests/tools/run-unit $(checks)
# Not under valgrind: Debian 12's does not know pidfd_open(), by which the end of a program is heard, and keeps the
# title of a process; glibc's resolver keeps what it read; TLS, handshakes, large messages and the supervisor's
# processes are slower than the times they must meet; what fills disk and memory takes minutes, and the sanitizers
# see it.
memchecks := $(filter-out $(addprefix %/check_,listener_exec notify resolve tls session supervisor reload keeper \
	embedded store_model store_faults store_purge broker_memory broker_priorities dispatcher_memory \
	publisher_large),$(checks))
memcheck: $(memchecks)
	@tests/tools/run-unit --valgrind $(memchecks)
headers: | $(B)/flags
	@tests/tools/check-headers '$(CC) $(HARK_CFLAGS) $(HARK_CPPFLAGS) $(CPPFLAGS)'

# These choose their variant themselves; what they build is in the asan and fuzz folders.
replay-programs: $(replays)
fuzz-objects: $(fuzzers:=.o)
fuzz-replay:
	@$(MAKE) --no-print-directory VARIANT=asan replay-programs
	@tests/tools/run-replay
fuzz-programs: $(fuzzers)
fuzz:
	@$(MAKE) --no-print-directory VARIANT=fuzz fuzz-programs
	@tests/tools/run-fuzz
system:
	@$(MAKE) --no-print-directory VARIANT=asan tests
	@tests/tools/run-system
bench-programs: $(benches)
bench: all bench-programs
	@tests/bench/run
.PHONY: replay-programs fuzz-objects fuzz-programs bench-programs configured

.PHONY: setup check demo
setup:
	@tests/tools/setup build check
# Nothing may be there yet: first the packages, then a make that configures.
check:
	@tests/tools/setup build check
	@tests/tools/check $(STEPS)
demo:
	@tests/tools/setup build demo
	@$(MAKE) --no-print-directory all
	@tests/tools/demo

# ---- install ----

.PHONY: install uninstall dist
manuals := $(sort $(wildcard conf/man/*.[1-9]))
manual_to = $(mandir)/man$(subst .,,$(suffix $(1)))/$(notdir $(1))
headers := $(sort $(wildcard include/hark/*.h))
unit_file := $(if $(systemdsystemunitdir),$(wildcard systemd/harkd.service))
sysusers := $(if $(systemdsystemunitdir),$(wildcard systemd/sysusers.conf))
sysusersdir = $(prefix)/lib/sysusers.d
# The files say /usr/sbin and /etc/hark.
with_paths = sed -e 's,/usr/sbin/harkd,$(sbindir)/harkd,g' -e 's,/etc/hark\b,$(sysconfdir)/hark,g' $(1) >$(2) \
	&& chmod 644 $(2)

# A configuration that is there already is the user's.
install: all
	install -d '$(DESTDIR)$(sbindir)' '$(DESTDIR)$(sysconfdir)/hark' '$(DESTDIR)$(includedir)/hark'
	install -m 755 $(B)/harkd '$(DESTDIR)$(sbindir)/harkd'
	install -m 644 $(headers) '$(DESTDIR)$(includedir)/hark/'
	@$(foreach m,$(manuals),install -d '$(DESTDIR)$(dir $(call manual_to,$(m)))' && \
		$(call with_paths,$(m),'$(DESTDIR)$(call manual_to,$(m))') && ) :
	@test ! -e conf/hark.ini || test -e '$(DESTDIR)$(sysconfdir)/hark/hark.ini' || \
		{ $(call with_paths,conf/hark.ini,'$(DESTDIR)$(sysconfdir)/hark/hark.ini'); }
	@$(if $(unit_file),install -d '$(DESTDIR)$(systemdsystemunitdir)' && \
		$(call with_paths,$(unit_file),'$(DESTDIR)$(systemdsystemunitdir)/harkd.service'))
	@$(if $(sysusers),install -d '$(DESTDIR)$(sysusersdir)' && \
		install -m 644 $(sysusers) '$(DESTDIR)$(sysusersdir)/hark.conf')
	@$(if $(DESTDIR),,$(if $(unit_file), \
		echo 'Next: systemd-sysusers && systemctl daemon-reload && systemctl enable --now harkd'))

uninstall:
	rm -f '$(DESTDIR)$(sbindir)/harkd' $(foreach m,$(manuals),'$(DESTDIR)$(call manual_to,$(m))') \
		$(foreach h,$(headers),'$(DESTDIR)$(includedir)/hark/$(notdir $(h))') \
		$(if $(systemdsystemunitdir),'$(DESTDIR)$(systemdsystemunitdir)/harkd.service' \
		'$(DESTDIR)$(sysusersdir)/hark.conf')
	-rmdir '$(DESTDIR)$(includedir)/hark'
	@test ! -e '$(DESTDIR)$(sysconfdir)/hark/hark.ini' || echo 'left: $(sysconfdir)/hark/hark.ini'

# What is committed, plus configure: who unpacks it needs no autoconf.
name := hark-$(VERSION)
dist: configure
	@rm -rf build/dist && mkdir -p build/dist/$(name)
	git archive --prefix=$(name)/ -o build/dist/$(name).tar HEAD
	@git diff --quiet HEAD || echo 'not committed, so not in it:' && git diff --stat HEAD
	@cp configure build/dist/$(name)/ && tar -C build/dist --append --owner=root:0 --group=root:0 \
		--mtime=@$$(git log -1 --format=%ct) -f build/dist/$(name).tar $(name)/configure
	gzip -9n <build/dist/$(name).tar >$(name).tar.gz
	@rm -rf build/dist

# ---- tools ----

.PHONY: listener format format-check tidy help clean distclean
listener:
	@tests/tools/new-listener '$(NAME)'

formatted = $(shell find include src tests -name '*.[ch]')
format:
	@clang-format -i $(formatted)
format-check:
	@clang-format --dry-run --Werror $(formatted)

# Advice, not law: clang's analyzer does not follow every invariant.
tidy:
	@printf '%s\n' $(sources) $(main) $(listeners:%=src/listeners/%.c) | xargs -P "$$(nproc)" -I '{}' \
		clang-tidy --quiet --checks='$(tidy_checks)' '{}' -- -std=gnu11 $(HARK_CPPFLAGS) -Isrc $(paths) 2>/dev/null
comma := ,
empty :=
tidy_checks := $(subst $(empty) $(empty),$(comma),$(strip -* clang-analyzer-* bugprone-* performance-* \
	$(addprefix -,clang-analyzer-security.insecureAPI.DeprecatedOrUnsafeBufferHandling \
	clang-analyzer-valist.Uninitialized clang-analyzer-optin.performance.Padding bugprone-branch-clone \
	bugprone-easily-swappable-parameters bugprone-implicit-widening-of-multiplication-result \
	bugprone-assignment-in-if-condition bugprone-macro-parentheses bugprone-narrowing-conversions \
	bugprone-reserved-identifier bugprone-signed-char-misuse bugprone-sizeof-expression)))

help:
	@sed -n 's/^#: //p' Makefile

clean:
	rm -rf build
distclean: clean
	rm -rf configure config.log config.status autom4te.cache src/config.mk hark-*.tar.gz
