/* gemm.h for matrices of doubles; B, if packed, is of GEMM_B_TYPE 0, and there is no GEMM_HALF. */
#include "../vec_f64_names.h"
#include "gemm.h"
#include "../vec_f64_end.h"
