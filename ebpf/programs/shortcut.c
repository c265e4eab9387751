/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/* Both programs in one object, so that they share their tables. */
#include "from_container.c"
#include "from_underlay.c"

const char licence[] SEC("license") = "Dual MIT/GPL";
