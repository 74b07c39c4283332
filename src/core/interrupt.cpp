#include "core/interrupt.h"

#include <unistd.h>

#include <csignal>
#include <initializer_list>

namespace power {
namespace {

volatile std::sig_atomic_t received = 0;

void on_signal(int signal) {
  if (signal == SIGINT && received == SIGINT) _exit(130);
  received = signal;
}

}  // namespace

void install_interrupt_handlers() {
  struct sigaction action = {};
  action.sa_handler = on_signal;
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART;
  for (const int signal : {SIGINT, SIGTERM, SIGUSR1}) sigaction(signal, &action, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
}

int interrupt_signal() { return received; }

void clear_interrupt() { received = 0; }

}  // namespace power
