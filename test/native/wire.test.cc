// SPDX-License-Identifier: MIT
// Requests as bytes: what is accepted, refused, waited for, given up.
#include "native/driver/wire.h"

#include <errno.h>
#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

namespace snapbak {
namespace {

using Bytes = std::vector<uint8_t>;

const uint32_t kStructured[] = {SNAPBAK_IOC_QUERY,  SNAPBAK_IOC_OPEN,   SNAPBAK_IOC_SETUP,
                                SNAPBAK_IOC_START,  SNAPBAK_IOC_FINISH, SNAPBAK_IOC_ABORT,
                                SNAPBAK_IOC_STATUS, SNAPBAK_IOC_HINT,   SNAPBAK_IOC_STOP_WRITES};

Bytes Request(uint32_t cmd, uint32_t sequence = 1) {
  WireBody body{};
  const int size = WirePayloadSize(cmd);
  body.size = static_cast<uint32_t>(size);
  uint8_t out[sizeof(WireRequestHeader) + sizeof(WireBody)];
  const size_t n = EncodeRequest(cmd, sequence, &body, out);
  return Bytes(out, out + n);
}

template <typename T>
void Put(Bytes* bytes, size_t offset, T value) {
  memcpy(bytes->data() + offset, &value, sizeof(value));
}

struct Result {
  Parsed parsed;
  size_t consumed;
  WireRequest request;
  int error;
};

Result Parse(const Bytes& bytes) {
  Result r;
  r.parsed = ParseRequest(bytes.data(), bytes.size(), &r.consumed, &r.request, &r.error);
  return r;
}

TEST(Wire, EveryRequestOfTheContractIsRead) {
  for (const uint32_t cmd : kStructured) {
    const Bytes bytes = Request(cmd, 77);
    const Result r = Parse(bytes);
    EXPECT_EQ(r.parsed, Parsed::kRequest) << cmd;
    EXPECT_EQ(r.consumed, bytes.size());
    EXPECT_EQ(r.request.cmd, cmd);
    EXPECT_EQ(r.request.sequence, 77u);
    EXPECT_EQ(r.request.size, _IOC_SIZE(cmd));
    EXPECT_EQ(r.request.body.size, _IOC_SIZE(cmd));
  }
  EXPECT_EQ(Parse(Request(SNAPBAK_IOC_KICK)).parsed, Parsed::kRequest);
}

TEST(Wire, EveryBeginningOfARequestIsWaitedFor) {
  for (const uint32_t cmd : kStructured) {
    const Bytes bytes = Request(cmd);
    for (size_t n = 0; n < bytes.size(); ++n) {
      const Result r = Parse(Bytes(bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(n)));
      EXPECT_EQ(r.parsed, Parsed::kMore) << cmd << " cut at " << n;
      EXPECT_EQ(r.consumed, 0u);
    }
  }
}

TEST(Wire, TheSecondOfTwoRequestsStaysForLater) {
  Bytes bytes = Request(SNAPBAK_IOC_QUERY, 1);
  const size_t first = bytes.size();
  const Bytes second = Request(SNAPBAK_IOC_ABORT, 2);
  bytes.insert(bytes.end(), second.begin(), second.end());
  EXPECT_EQ(Parse(bytes).consumed, first);
  const Result r = Parse(Bytes(bytes.begin() + static_cast<ptrdiff_t>(first), bytes.end()));
  EXPECT_EQ(r.parsed, Parsed::kRequest);
  EXPECT_EQ(r.request.sequence, 2u);
}

TEST(Wire, AnotherMagicIsRubbishFromItsFirstByteOn) {
  const std::string http = "GET / HTTP/1.1\r\n\r\n";
  for (size_t n = 1; n <= http.size(); ++n) {
    EXPECT_EQ(Parse(Bytes(http.begin(), http.begin() + static_cast<ptrdiff_t>(n))).parsed, Parsed::kRubbish);
  }
  Bytes bytes = Request(SNAPBAK_IOC_QUERY);
  bytes[3] ^= 1;
  EXPECT_EQ(Parse(bytes).parsed, Parsed::kRubbish);
}

TEST(Wire, APayloadTooLongToSkipIsRubbish) {
  Bytes bytes = Request(SNAPBAK_IOC_QUERY);
  Put<uint32_t>(&bytes, 8, kWireMaxPayload + 1);
  EXPECT_EQ(Parse(bytes).parsed, Parsed::kRubbish);
  Put<uint32_t>(&bytes, 8, 0xffffffff);
  EXPECT_EQ(Parse(bytes).parsed, Parsed::kRubbish);
}

TEST(Wire, AnUnknownCommandIsRefusedAndSkipped) {
  Bytes bytes = Request(SNAPBAK_IOC_QUERY);
  for (const uint32_t cmd : {0u, 0xffffffffu, static_cast<uint32_t>(_IOWR('x', 1, struct snapbak_query)),
                             static_cast<uint32_t>(_IOWR(SNAPBAK_IOC_TYPE, 0x7f, struct snapbak_query))}) {
    Put<uint32_t>(&bytes, 4, cmd);
    const Result r = Parse(bytes);
    EXPECT_EQ(r.parsed, Parsed::kRefused) << cmd;
    EXPECT_EQ(r.error, -ENOTTY);
    EXPECT_EQ(r.consumed, bytes.size());
    EXPECT_EQ(r.request.size, 0u) << "nothing of the payload goes back";
  }
}

TEST(Wire, ARequestOfAnotherVersionOfTheContractIsToldSo) {
  struct longer {
    snapbak_query query;
    uint64_t more;
  };
  Bytes bytes = Request(SNAPBAK_IOC_QUERY);
  bytes.resize(bytes.size() + 8);
  Put<uint32_t>(&bytes, 4, _IOWR(SNAPBAK_IOC_TYPE, 0x01, struct longer));
  Put<uint32_t>(&bytes, 8, sizeof(longer));
  const Result r = Parse(bytes);
  EXPECT_EQ(r.parsed, Parsed::kRefused);
  EXPECT_EQ(r.error, -EPROTONOSUPPORT);
  EXPECT_EQ(r.consumed, bytes.size());
}

TEST(Wire, APayloadOfTheWrongSizeIsRefused) {
  for (const uint32_t cmd : kStructured) {
    for (const int difference : {-8, -1, 1, 8}) {
      Bytes bytes = Request(cmd);
      bytes.resize(bytes.size() + static_cast<size_t>(difference + 8) - 8);
      Put<uint32_t>(&bytes, 8, _IOC_SIZE(cmd) + static_cast<uint32_t>(difference));
      const Result r = Parse(bytes);
      EXPECT_EQ(r.parsed, Parsed::kRefused) << cmd << " " << difference;
      EXPECT_EQ(r.error, -EINVAL);
    }
  }
  Bytes kick = Request(SNAPBAK_IOC_KICK);
  kick.resize(kick.size() + 4);
  Put<uint32_t>(&kick, 8, 4);
  EXPECT_EQ(Parse(kick).error, -EINVAL);
}

TEST(Wire, ASizeFieldThatDisagreesIsRefused) {
  for (const uint32_t cmd : kStructured) {
    for (const uint32_t size : {0u, 4u, static_cast<uint32_t>(_IOC_SIZE(cmd)) + 8, 0xffffffffu}) {
      Bytes bytes = Request(cmd);
      Put<uint32_t>(&bytes, sizeof(WireRequestHeader), size);
      EXPECT_EQ(Parse(bytes).error, -EINVAL) << cmd << " " << size;
    }
  }
}

TEST(Wire, AnyReservedByteThatIsSetIsRefused) {
  const struct {
    uint32_t cmd;
    size_t offset, size;
  } fields[] = {
      {SNAPBAK_IOC_QUERY, offsetof(snapbak_query, reserved), sizeof(snapbak_query::reserved)},
      {SNAPBAK_IOC_OPEN, offsetof(snapbak_open, reserved), sizeof(snapbak_open::reserved)},
      {SNAPBAK_IOC_SETUP, offsetof(snapbak_setup, reserved), sizeof(snapbak_setup::reserved)},
      {SNAPBAK_IOC_START, offsetof(snapbak_start, reserved), sizeof(snapbak_start::reserved)},
      {SNAPBAK_IOC_FINISH, offsetof(snapbak_finish, reserved), sizeof(snapbak_finish::reserved)},
      {SNAPBAK_IOC_ABORT, offsetof(snapbak_abort, reserved), sizeof(snapbak_abort::reserved)},
      {SNAPBAK_IOC_STATUS, offsetof(snapbak_status, reserved), sizeof(snapbak_status::reserved)},
      {SNAPBAK_IOC_HINT, offsetof(snapbak_hint, reserved), sizeof(snapbak_hint::reserved)},
      {SNAPBAK_IOC_STOP_WRITES, offsetof(snapbak_stop_writes, reserved),
       sizeof(snapbak_stop_writes::reserved)},
  };
  for (const auto& field : fields) {
    for (size_t i = 0; i < field.size; ++i) {
      Bytes bytes = Request(field.cmd);
      bytes[sizeof(WireRequestHeader) + field.offset + i] = 0x80;
      const Result r = Parse(bytes);
      EXPECT_EQ(r.parsed, Parsed::kRefused) << field.cmd << " byte " << i;
      EXPECT_EQ(r.error, -EINVAL);
      EXPECT_EQ(r.request.size, 0u);
    }
  }
}

TEST(Wire, AReplyRepeatsCommandAndSequenceAndBringsTheStructure) {
  WireRequest request;
  request.cmd = SNAPBAK_IOC_SETUP;
  request.sequence = 9;
  request.size = sizeof(snapbak_setup);
  request.body.setup.size = sizeof(snapbak_setup);
  request.body.setup.map_size = 123456;
  uint8_t out[kWireMaxReply];
  ASSERT_EQ(EncodeReply(request, -EBUSY, out), sizeof(WireReplyHeader) + sizeof(snapbak_setup));
  WireReplyHeader header;
  memcpy(&header, out, sizeof(header));
  EXPECT_EQ(header.magic, kWireMagic);
  EXPECT_EQ(header.cmd, SNAPBAK_IOC_SETUP);
  EXPECT_EQ(header.sequence, 9u);
  EXPECT_EQ(header.size, sizeof(snapbak_setup));
  EXPECT_EQ(header.result, -EBUSY);
  EXPECT_EQ(header.reserved, 0u);
  EXPECT_EQ(memcmp(out + sizeof(header), &request.body, sizeof(snapbak_setup)), 0);
}

}  // namespace
}  // namespace snapbak
