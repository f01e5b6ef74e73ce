/* SPDX-License-Identifier: MIT */
#include "daemon/options.h"

int main(int argc, char **argv)
{
    return options_run(argc, argv);
}
