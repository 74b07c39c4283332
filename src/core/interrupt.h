#pragma once

// Signals as a flag that long loops poll.
namespace power {

// From now on the first SIGINT, SIGTERM or SIGUSR1 only sets the flag; a second SIGINT ends the process with status 130
// at once (finished files are complete on disk by then: every writer renames). SIGPIPE is ignored: a closed pipe shows
// as a failed write.
void install_interrupt_handlers();
// The signal that asked the program to stop, or 0.
int interrupt_signal();
inline bool interrupted() { return interrupt_signal() != 0; }
// Forgets a received signal; for tests.
void clear_interrupt();

}  // namespace power
