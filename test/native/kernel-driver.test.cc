// SPDX-License-Identifier: MIT
// The library's side of the kernel driver, with the module played by the test:
// a memory file stands for its control device, a function for its ioctls.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <vector>

#include "native/driver/kernel_driver.h"

namespace snapbak {
namespace {

constexpr uint64_t kOrigin = 0xfd03;  // 253:3
constexpr uint64_t kSize = 1 << 20;

// Answers like the module, and remembers what it was asked.
class FakeModule {
 public:
  FakeModule() : control(memfd_create("snapbak-control", MFD_CLOEXEC)) {}

  KernelDriverOptions Options() {
    KernelDriverOptions options;
    options.control = "/proc/self/fd/" + std::to_string(control.get());
    options.nodes = nodes;
    options.ioctl = [this](int, unsigned long request, void* argument) { return Ioctl(request, argument); };
    return options;
  }

  int Ioctl(unsigned long request, void* argument) {
    asked.push_back(request);
    if (interruptions > 0) {
      interruptions--;
      errno = EINTR;
      return -1;
    }
    if (request == failing && error != 0) {
      if (request == SNAPBAK_IOC_START) static_cast<snapbak_start*>(argument)->failed_dev = kOrigin;
      errno = error;
      return -1;
    }
    switch (request) {
      case SNAPBAK_IOC_QUERY:
        static_cast<snapbak_query*>(argument)->abi_version = abi_version;
        return 0;
      case SNAPBAK_IOC_OPEN: {
        auto* open = static_cast<snapbak_open*>(argument);
        opened_dev = open->dev;
        open->origin_size = kSize;
        open->sector_size = sector_size;
        open->origin_flags = SNAPBAK_O_BLOCK_DEVICE;
        open->lower_dev = lower_dev;
        open->lower_offset = lower_offset;
        memset(open->origin_id, id_byte, sizeof(open->origin_id));
        return 0;
      }
      case SNAPBAK_IOC_SETUP:
        return Setup(static_cast<snapbak_setup*>(argument));
      case SNAPBAK_IOC_START:
        starts.push_back(static_cast<snapbak_start*>(argument)->timeout_ms);
        return 0;
      case SNAPBAK_IOC_STATUS:
        status_dev = static_cast<snapbak_status*>(argument)->dev;
        return 0;
      case SNAPBAK_IOC_HINT:
        hint = *static_cast<snapbak_hint*>(argument);
        return 0;
      default:
        return 0;
    }
  }

  int Setup(snapbak_setup* setup) {
    snapbak_shm shm{};
    EXPECT_EQ(0, snapbak_layout_compute(&shm, kSize, setup->block_shift, setup->nr_slots + extra_slots,
                                        setup->flags));
    shm.magic = magic;
    shm.abi_version = SNAPBAK_ABI_VERSION;
    shm.driver = SNAPBAK_DRIVER_KERNEL;
    EXPECT_EQ(0, ftruncate(control.get(), static_cast<off_t>(shm.map_size)));
    EXPECT_EQ(static_cast<ssize_t>(sizeof(shm)), pwrite(control.get(), &shm, sizeof(shm), 0));
    setup->map_size = map_size != 0 ? map_size : shm.map_size;
    return 0;
  }

  size_t Count(unsigned long request) const {
    size_t n = 0;
    for (unsigned long one : asked) n += one == request;
    return n;
  }

  UniqueFd control;
  NodePlaces nodes;
  std::vector<unsigned long> asked;
  std::vector<uint64_t> starts;
  unsigned long failing = 0;
  int error = 0;
  int interruptions = 0;
  uint32_t abi_version = SNAPBAK_ABI_VERSION;
  uint32_t sector_size = 512;
  uint64_t lower_dev = 0, lower_offset = 0, map_size = 0;
  uint64_t magic = SNAPBAK_MAGIC;
  uint32_t extra_slots = 0;
  int id_byte = 0;
  uint64_t opened_dev = 0, status_dev = 0;
  snapbak_hint hint{};
};

class KernelDriverTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "snapbak-kernel-XXXXXX").string();
    ASSERT_NE(nullptr, mkdtemp(pattern.data()));
    folder_ = pattern;
    module_.nodes.sys_dev_block = folder_ + "/sys";
    module_.nodes.dev = folder_ + "/dev";
    std::filesystem::create_directories(module_.nodes.dev);
    // any block device of this machine plays the lower one; it is only opened
    for (const auto& entry : std::filesystem::directory_iterator("/dev")) {
      struct stat st;
      if (stat(entry.path().c_str(), &st) != 0 || !S_ISBLK(st.st_mode)) continue;
      const UniqueFd fd(open(entry.path().c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC));
      if (!fd.valid()) continue;
      std::filesystem::create_symlink(entry.path(), module_.nodes.dev + "/dm-2");
      module_.lower_dev = st.st_rdev;
      PutNode(st.st_rdev, "dm-2");
      return;
    }
    GTEST_SKIP() << "no block device in /dev can be opened: run as root, with a loop device at least";
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  void PutNode(uint64_t device, const std::string& name) {
    const std::string place = module_.nodes.sys_dev_block + "/" + std::to_string(major(device)) + ":" +
                              std::to_string(minor(device));
    std::filesystem::create_directories(place);
    std::ofstream(place + "/uevent") << "MAJOR=1\nDEVNAME=" << name << "\nDEVTYPE=disk\n";
  }
  int Connect() { return KernelDriver::Connect(kOrigin, &driver_, module_.Options()); }
  int Open(UniqueFd* lower) {
    snapbak_open open{};
    open.size = sizeof(open);
    return driver_->Open(&open, lower);
  }
  int Setup(SharedMemory* memory) {
    snapbak_setup setup{};
    setup.size = sizeof(setup);
    setup.block_shift = 12;
    setup.nr_slots = 8;
    return driver_->Setup(&setup, memory);
  }

  std::string folder_;
  FakeModule module_;
  std::unique_ptr<Driver> driver_;
};

TEST_F(KernelDriverTest, SaysThatTheModuleIsNotLoaded) {
  KernelDriverOptions options;
  options.control = folder_ + "/missing";
  EXPECT_EQ(-ENOENT, KernelDriver::Connect(kOrigin, &driver_, options));
}

TEST_F(KernelDriverTest, SaysThatWhatItOpenedIsNoControlDevice) {
  KernelDriverOptions options;
  options.control = "/dev/null";  // and the real ioctl()
  EXPECT_EQ(-EPROTONOSUPPORT, KernelDriver::Connect(kOrigin, &driver_, options));
}

TEST_F(KernelDriverTest, RefusesAModuleOfAnotherVersion) {
  module_.abi_version = SNAPBAK_ABI_VERSION + 1;
  EXPECT_EQ(-EPROTONOSUPPORT, Connect());
  module_.abi_version = SNAPBAK_ABI_VERSION;
  module_.failing = SNAPBAK_IOC_QUERY;
  for (int error : {ENOTTY, EINVAL}) {
    module_.error = error;
    EXPECT_EQ(-EPROTONOSUPPORT, Connect());
  }
  module_.error = EPERM;
  EXPECT_EQ(-EPERM, Connect());
}

TEST_F(KernelDriverTest, NamesTheOriginByItsNumber) {
  ASSERT_EQ(0, Connect());
  UniqueFd lower;
  ASSERT_EQ(0, Open(&lower));
  EXPECT_EQ(kOrigin, module_.opened_dev);
  snapbak_status status{};
  ASSERT_EQ(0, driver_->Status(&status));
  EXPECT_EQ(kOrigin, module_.status_dev);
}

TEST_F(KernelDriverTest, GivesHintsForTheOriginWithoutASessionOfItsOwn) {
  ASSERT_EQ(0, Connect());
  snapbak_hint hint{};
  hint.size = sizeof(hint);
  hint.extent = {4096, 512};
  ASSERT_EQ(0, driver_->Hint(&hint));
  EXPECT_EQ(kOrigin, module_.hint.dev);
  EXPECT_EQ(4096u, module_.hint.extent.offset);
  EXPECT_EQ(512u, module_.hint.extent.length);
  module_.failing = SNAPBAK_IOC_HINT;
  for (int error : {ENODATA, ENOTTY}) {
    module_.error = error;
    EXPECT_EQ(-error, driver_->Hint(&hint));
  }
}

TEST_F(KernelDriverTest, OpensTheLowerDeviceByItsNumberToReadItDirectly) {
  ASSERT_EQ(0, Connect());
  UniqueFd lower;
  ASSERT_EQ(0, Open(&lower));
  struct stat st;
  ASSERT_EQ(0, fstat(lower.get(), &st));
  EXPECT_EQ(module_.lower_dev, st.st_rdev);
  const int flags = fcntl(lower.get(), F_GETFL);
  EXPECT_EQ(O_RDONLY, flags & O_ACCMODE);
  EXPECT_NE(0, flags & O_DIRECT);
}

TEST_F(KernelDriverTest, DoesNotTakeAnotherDeviceForTheLowerOne) {
  ASSERT_EQ(0, Connect());
  UniqueFd lower;
  module_.lower_dev = makedev(240, 7);
  EXPECT_EQ(-ENXIO, Open(&lower));  // unknown to the kernel
  PutNode(module_.lower_dev, "gone");
  EXPECT_EQ(-ENXIO, Open(&lower));  // no node
  PutNode(module_.lower_dev, "null");
  std::filesystem::create_symlink("/dev/null", module_.nodes.dev + "/null");
  EXPECT_NE(0, Open(&lower));  // no block device
  PutNode(module_.lower_dev, "dm-2");
  EXPECT_EQ(-ENXIO, Open(&lower));  // another block device behind that name
  EXPECT_FALSE(lower.valid());
}

TEST_F(KernelDriverTest, RefusesAnAnswerThatTheContractDoesNotAllow) {
  ASSERT_EQ(0, Connect());
  UniqueFd lower;
  module_.sector_size = 1000;
  EXPECT_EQ(-EPROTO, Open(&lower));
  module_.sector_size = 4096;
  module_.lower_offset = 512;
  EXPECT_EQ(-EPROTO, Open(&lower));
  module_.lower_offset = 4096;
  module_.id_byte = 'x';
  EXPECT_EQ(-EPROTO, Open(&lower));
}

TEST_F(KernelDriverTest, MapsTheMemoryOfTheControlDescriptor) {
  ASSERT_EQ(0, Connect());
  UniqueFd lower;
  ASSERT_EQ(0, Open(&lower));
  SharedMemory memory;
  ASSERT_EQ(0, Setup(&memory));
  EXPECT_TRUE(memory.locked());
  memory.header()->heartbeat = 42;
  uint64_t seen = 0;
  ASSERT_EQ(8, pread(module_.control.get(), &seen, 8, offsetof(snapbak_shm, heartbeat)));
  EXPECT_EQ(42u, seen);
}

TEST_F(KernelDriverTest, RefusesAMemoryThatIsNotWhatWasAskedFor) {
  ASSERT_EQ(0, Connect());
  UniqueFd lower;
  ASSERT_EQ(0, Open(&lower));
  SharedMemory memory;
  module_.magic = 1;
  EXPECT_EQ(-EPROTO, Setup(&memory));
  module_.magic = SNAPBAK_MAGIC;
  module_.extra_slots = 1;
  EXPECT_EQ(-EPROTO, Setup(&memory));
  module_.extra_slots = 0;
  for (uint64_t size : {uint64_t{8}, uint64_t{SNAPBAK_PAGE}}) {
    module_.map_size = size;
    EXPECT_EQ(-EPROTO, Setup(&memory));
  }
  EXPECT_FALSE(memory.valid());
}

TEST_F(KernelDriverTest, MakesARequestAgainThatASignalInterrupted) {
  ASSERT_EQ(0, Connect());
  module_.asked.clear();
  module_.interruptions = 2;
  snapbak_status status{};
  EXPECT_EQ(0, driver_->Status(&status));
  EXPECT_EQ(3u, module_.Count(SNAPBAK_IOC_STATUS));
}

TEST_F(KernelDriverTest, DoesNotWaitLongerForTheStartBecauseOfSignals) {
  ASSERT_EQ(0, Connect());
  snapbak_start start{};
  start.timeout_ms = 60000;
  module_.interruptions = 1;
  EXPECT_EQ(0, driver_->Start(&start));
  ASSERT_EQ(1u, module_.starts.size());
  EXPECT_LT(module_.starts[0], 60000u);  // some of it was used up
  EXPECT_GT(module_.starts[0], 50000u);
  start.timeout_ms = 1;
  module_.interruptions = 1 << 30;
  EXPECT_EQ(-ETIMEDOUT, driver_->Start(&start));
}

TEST_F(KernelDriverTest, TellsAtWhichDeviceTheStartFailed) {
  ASSERT_EQ(0, Connect());
  module_.failing = SNAPBAK_IOC_START;
  module_.error = EIO;
  snapbak_start start{};
  start.timeout_ms = 1000;
  EXPECT_EQ(-EIO, driver_->Start(&start));
  EXPECT_EQ(kOrigin, start.failed_dev);
}

TEST_F(KernelDriverTest, AbortsASessionThatIsNotOverWhenItGoes) {
  UniqueFd lower;
  ASSERT_EQ(0, Connect());
  driver_.reset();
  EXPECT_EQ(0u, module_.Count(SNAPBAK_IOC_ABORT)) << "there was no session";

  ASSERT_EQ(0, Connect());
  ASSERT_EQ(0, Open(&lower));
  driver_.reset();
  EXPECT_EQ(1u, module_.Count(SNAPBAK_IOC_ABORT));

  ASSERT_EQ(0, Connect());
  ASSERT_EQ(0, Open(&lower));
  snapbak_finish finish{};
  ASSERT_EQ(0, driver_->Finish(&finish));
  driver_.reset();
  EXPECT_EQ(1u, module_.Count(SNAPBAK_IOC_ABORT)) << "a finished session is left alone";

  ASSERT_EQ(0, Connect());
  ASSERT_EQ(0, Open(&lower));
  snapbak_abort abort{};
  ASSERT_EQ(0, driver_->Abort(&abort));
  driver_.reset();
  EXPECT_EQ(2u, module_.Count(SNAPBAK_IOC_ABORT)) << "once is enough";
}

TEST_F(KernelDriverTest, KeepsTheMemoryAfterItIsGone) {
  ASSERT_EQ(0, Connect());
  UniqueFd lower;
  ASSERT_EQ(0, Open(&lower));
  SharedMemory memory;
  ASSERT_EQ(0, Setup(&memory));
  driver_.reset();
  EXPECT_EQ(SNAPBAK_MAGIC, memory.header()->magic);
}

TEST_F(KernelDriverTest, SleepsUntilTheControlDeviceIsReadable) {
  KernelDriverOptions options = module_.Options();
  options.control = folder_ + "/control";
  ASSERT_EQ(0, mkfifo(options.control.c_str(), 0600));
  ASSERT_EQ(0, KernelDriver::Connect(kOrigin, &driver_, options));
  const UniqueFd cancel(eventfd(0, EFD_CLOEXEC));
  EXPECT_EQ(-ETIMEDOUT, driver_->WaitEvent(cancel.get(), 1));
  const UniqueFd control(open(options.control.c_str(), O_RDWR | O_CLOEXEC));
  ASSERT_EQ(1, write(control.get(), "x", 1));
  EXPECT_EQ(0, driver_->WaitEvent(cancel.get(), -1));
  EXPECT_EQ(0, driver_->WaitEvent(cancel.get(), -1)) << "for as long as there is something";
  ASSERT_EQ(0, eventfd_write(cancel.get(), 1));
  EXPECT_EQ(-ECANCELED, driver_->WaitEvent(cancel.get(), -1));
}

}  // namespace
}  // namespace snapbak
