/* From here to vec_f64_end.h names of vec.h mean vectors of doubles: see vec_f64.h. */
#include "vec_f64.h"
#pragma push_macro("NEVE_VL")
#pragma push_macro("NEVE_BY_LANE")
#undef NEVE_VL
#undef NEVE_BY_LANE
#define NEVE_VL NEVE_VD
#define NEVE_BY_LANE 0
#define vf vd
#define velem double
#define vload vload_f64
#define vstore vstore_f64
#define vload_n vload_n_f64
#define vstore_n vstore_n_f64
#define vset vset_f64
#define vfma vfma_f64
#define vtranspose vtranspose_f64
