#pragma once

// The kernel tables that exist, one per instruction set. select.cpp knows which of them a build has.

#include "kernels/kernel_table.h"

namespace bitnet::kernels {

namespace scalar {
extern const KernelTable kTable;
}
namespace avx2 {
extern const KernelTable kTable;
}
namespace avxvnni {
extern const KernelTable kTable;
}
namespace avx512vnni {
extern const KernelTable kTable, kVbmiTable;
}
namespace amx {
extern const KernelTable kTable;
}
namespace neon {
extern const KernelTable kTable;
}
namespace neon_i8mm {
extern const KernelTable kTable;
}
namespace neon_dotprod {
extern const KernelTable kTable;
}

}  // namespace bitnet::kernels
