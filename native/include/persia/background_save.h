// A save that goes on in a process of its own, on a copy-on-write snapshot of this one's memory.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <functional>
#include <optional>

#include "persia/codec.h"
#include "persia/messages.h"

namespace persia {

// The process is forked when the object is made: what is changed here afterwards, it does not see. It has one
// thread, opens nothing but what `work` opens, and ends with the thread that made it, at the latest.
class BackgroundSave {
 public:
  // No other thread of this process may be changing what `work` reads. `temporary` is removed if the save
  // does not succeed. Throws RequestError (kOutOfMemory) if there can be no other process.
  BackgroundSave(std::filesystem::path temporary, const std::function<SaveReply()>& work);
  BackgroundSave(const BackgroundSave&) = delete;
  BackgroundSave& operator=(const BackgroundSave&) = delete;
  // Ends it if it is still under way.
  ~BackgroundSave();

  // What `work` returned; nothing as long as it is under way. Throws what `work` has thrown as a
  // RequestError, and RequestError (kSaveFailed) if the process was ended from outside. Says the same again
  // when asked again.
  std::optional<SaveReply> poll();

 private:
  void collect();
  SaveReply outcome() const;
  void remove_temporary() const;

  std::filesystem::path temporary_;
  pid_t process_ = -1;
  int pipe_ = -1;  // until its end was read
  Bytes report_;
  int status_ = 0;  // of the process, once it has ended
};

}  // namespace persia
