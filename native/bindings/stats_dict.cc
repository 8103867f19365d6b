#include "stats_dict.h"

#include <nanobind/stl/string.h>

#include <string>

namespace nb = nanobind;

namespace persia::bindings {

nb::dict stats_to_dict(const StatsReply& reply) {
  nb::dict result;
  nb::dict staleness;
  staleness["max"] = 0;
  staleness["histogram"] = nb::dict();
  result["tables"] = nb::dict();
  result["staleness"] = staleness;
  result["errors"] = nb::dict();
  result["requests"] = nb::dict();
  for (const auto& [name, value] : reply.counters) {
    nb::dict at = result;
    std::size_t begin = 0;
    std::size_t dot = 0;
    while ((dot = name.find('.', begin)) != std::string::npos) {
      const nb::str step(name.data() + begin, dot - begin);
      if (!at.contains(step)) at[step] = nb::dict();
      at = nb::cast<nb::dict>(at[step]);
      begin = dot + 1;
    }
    const std::string last = name.substr(begin);
    if (name.starts_with("staleness.histogram.")) {
      at[nb::int_(std::stoull(last))] = value;
    } else {
      at[nb::str(last.c_str(), last.size())] = value;
    }
  }
  return result;
}

}  // namespace persia::bindings
