# SPDX-License-Identifier: MIT
CC ?= cc
CFLAGS ?= -O2 -g
LIBS := librabbitmq libevent_core openssl
HARK_CFLAGS := -std=gnu11 -D_GNU_SOURCE -Iinclude -Isrc -pthread $(shell pkg-config --cflags $(LIBS)) \
	-Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wcast-qual \
	-Wwrite-strings -Wvla
HARK_LIBS := $(shell pkg-config --libs $(LIBS)) -pthread
CHECK_LIBS := $(shell pkg-config --libs check)
B := build

sources := $(filter-out src/main.c,$(shell find src -name '*.c'))
modules := $(sort $(patsubst src/listeners/%.c,%,$(wildcard src/listeners/*.c)))
objects := $(sources:%.c=$(B)/%.o) $(B)/modules.o
checks := $(patsubst tests/unit/%.c,$(B)/tests/unit/%,$(wildcard tests/unit/check_*.c))

all: $(B)/libhark.a $(if $(wildcard src/main.c),$(B)/harkd)
$(B)/libhark.a: $(objects)
	rm -f $@ && ar rcs $@ $^
$(B)/harkd: $(B)/src/main.o $(B)/libhark.a
	$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(HARK_LIBS)
$(B)/modules.c: $(wildcard src/listeners)
	@mkdir -p $(@D)
	{ echo '#include <hark/listener.h>'; echo '#include <stddef.h>'; \
	  for m in $(subst -,_,$(modules)); do echo "extern const struct hark_module hark_module_$$m;"; done; \
	  echo 'extern const struct hark_module *const hark_modules[];'; \
	  echo 'const struct hark_module *const hark_modules[] = {'; \
	  for m in $(subst -,_,$(modules)); do echo "    &hark_module_$$m,"; done; echo '    NULL,'; echo '};'; } > $@
$(B)/modules.o: $(B)/modules.c
	$(CC) $(HARK_CFLAGS) $(CPPFLAGS) $(CFLAGS) -c -o $@ $<
$(B)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(HARK_CFLAGS) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<
$(B)/tests/unit/check_%: $(B)/tests/unit/check_%.o $(B)/libhark.a
	$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(CHECK_LIBS) $(HARK_LIBS)
unit: $(checks)
	@fail=0; for c in $^; do $$c || fail=1; done; exit $$fail

benches := $(addprefix $(B)/bench/,stub rabbitmq_loop queues)
$(B)/bench/stub: $(B)/tests/bench/stub_peer.o $(B)/tests/bench/stub_window.o
$(B)/bench/%: $(B)/tests/bench/%.o $(B)/libhark.a
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(HARK_LIBS)
bench-programs: $(benches)
bench: all bench-programs
	tests/bench/run
clean:
	rm -rf $(B)
-include $(shell find $(B) -name '*.d' 2>/dev/null)
.PHONY: all unit bench bench-programs clean
.SECONDARY:
