// The only unit compiled for AVX2 with FMA and F16C.

#include "kernels/cpu/attention_kernels.h"
#include "kernels/cpu/avx2/f32x16.h"
#include "kernels/cpu/avx2/ternary_matmul.h"
#include "kernels/cpu/dense_kernels.h"
#include "kernels/cpu/float_kernels.h"
#include "kernels/cpu/tables.h"

namespace bitnet::kernels::avx2 {

const KernelTable kTable = {
    "avx2",           quantize<F32x16>,  ternary_matmul,   dense_matmul<F32x16>, rms_norm<F32x16>,
    rope<F32x16>,     glu_relu2<F32x16>, glu_silu<F32x16>, attention<F32x16>,    add<F32x16>,
    store_f16<F32x16>};

}  // namespace bitnet::kernels::avx2
