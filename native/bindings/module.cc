#include "bindings.h"

NB_MODULE(_native, module) {
  module.doc() = "The C++ side of persia_core: ids, and the embedding worker.";
  persia::bindings::bind_heartbeat(module);
  persia::bindings::bind_ids(module);
  persia::bindings::bind_store(module);
  persia::bindings::bind_worker(module);
  persia::bindings::bind_testing(module);
}
