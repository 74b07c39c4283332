#include "core/version.h"

#include "cli/command.h"
#include "cli/environment.h"
#include "core/str.h"

namespace power::cli {

std::string version_text() {
  const Environment environment = inspect_environment();
  std::string architectures;
  for (const int architecture : environment.architectures) architectures += str(" sm_", architecture);
  const bool cuda = !environment.cuda_version.empty();
  return str("powertrain ", POWERTRAIN_VERSION, " (", environment.commit, ")\n",                   //
             "LibTorch   ", environment.libtorch_version, " (", environment.libtorch_path, ")\n",  //
             "CUDA       ", cuda ? environment.cuda_version : "none in this build", "\n",          //
             "NCCL       ", cuda ? environment.nccl_version : "none in this build", "\n",          //
             "archs      ", cuda ? architectures.substr(1) : "cpu", "\n");
}

}  // namespace power::cli
