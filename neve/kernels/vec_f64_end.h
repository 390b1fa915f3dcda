/* The end of what vec_f64_names.h begins. */
#undef vf
#undef velem
#undef vload
#undef vstore
#undef vload_n
#undef vstore_n
#undef vset
#undef vfma
#undef vtranspose
#pragma pop_macro("NEVE_BY_LANE")
#pragma pop_macro("NEVE_VL")
