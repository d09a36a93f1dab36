// SPDX-License-Identifier: MIT
#include "dispatch.h"

#include <errno.h>

#include <utility>

#include "wake.h"

namespace snapbak {

namespace {

int Setup(Engine* engine, uint64_t owner, snapbak_setup* setup, Answer* answer) {
  // The kick descriptors come first: what fails here must leave no session set up.
  UniqueFd ours, theirs;
  int ret = MakeWakePair(&ours, &theirs);
  if (ret != 0) return ret;
  ret = engine->HandleSetup(owner, setup, &answer->fds[0], &answer->fds[1]);
  if (ret != 0) return ret;
  answer->fds[2] = std::move(theirs);
  answer->kick = std::move(ours);
  return 0;
}

// The outputs of STATUS are zero where there is no session to speak of.
int Status(Engine* engine, snapbak_status* status) {
  snapbak_status clean{};
  clean.size = status->size;
  clean.dev = status->dev;
  *status = clean;
  return engine->HandleStatus(status);
}

}  // namespace

Answer Dispatch(Engine* engine, uint64_t owner, WireRequest* request) {
  Answer answer;
  WireBody& body = request->body;
  switch (request->cmd) {
    case SNAPBAK_IOC_QUERY:
      answer.result = engine->HandleQuery(&body.query);
      break;
    case SNAPBAK_IOC_OPEN:
      answer.result = engine->HandleOpen(owner, &body.open, &answer.fds[0]);
      break;
    case SNAPBAK_IOC_SETUP:
      answer.result = Setup(engine, owner, &body.setup, &answer);
      break;
    case SNAPBAK_IOC_START:
      // `others` would name descriptors of the caller's process, which mean
      // nothing across a socket; the engine, with its one origin, refuses them.
      // For one instant with others, writes are stopped before: STOP_WRITES.
      answer.result = engine->HandleStart(owner, &body.start);
      break;
    case SNAPBAK_IOC_KICK:
      engine->Kick();
      break;
    case SNAPBAK_IOC_FINISH:
      answer.result = engine->HandleFinish(owner, &body.finish);
      break;
    case SNAPBAK_IOC_ABORT:
      answer.result = engine->HandleAbort(owner, &body.abort);
      break;
    case SNAPBAK_IOC_STATUS:
      answer.result = Status(engine, &body.status);
      break;
    case SNAPBAK_IOC_STOP_WRITES:
      answer.result = engine->HandleStopWrites(owner, &body.stop_writes);
      break;
    case SNAPBAK_IOC_HINT:
      answer.result = engine->HandleHint(&body.hint);
      break;
    default:
      answer.result = -ENOTTY;
      break;
  }
  return answer;
}

}  // namespace snapbak
