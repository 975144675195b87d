// SPDX-License-Identifier: Apache-2.0
// Status and Expected carry code, message and context, and the two macros pass failures on.
#include "runtime/base/expected.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>

namespace girih {
namespace {

Expected<int> half(int number) {
  if (number % 2 != 0)
    return invalidArgument(std::to_string(number) + " is odd");
  return number / 2;
}

Expected<int> quarter(int number) {
  GIRIH_ASSIGN(int once, half(number));
  GIRIH_ASSIGN(int twice, half(once));
  return twice;
}

Status checkDivisibleByFour(int number) {
  GIRIH_TRY(quarter(number).isOk() ? Status() : outOfRange("no quarter").withContext(std::to_string(number)));
  return {};
}

TEST(Status, IsOkWithoutAnything) {
  Status status;
  EXPECT_TRUE(status.isOk());
  EXPECT_EQ(status.code(), StatusCode::Ok);
  EXPECT_EQ(status.message(), "");
  EXPECT_TRUE(std::move(status).withContext("ignored").isOk());
}

TEST(Status, EveryMakerHasItsCodeAndName) {
  struct Row { Status status; StatusCode code; std::string_view name; } rows[] = {
      {invalidArgument("m"), StatusCode::InvalidArgument, "invalid argument"},
      {notFound("m"), StatusCode::NotFound, "not found"},
      {failedPrecondition("m"), StatusCode::FailedPrecondition, "failed precondition"},
      {outOfRange("m"), StatusCode::OutOfRange, "out of range"},
      {resourceExhausted("m"), StatusCode::ResourceExhausted, "resource exhausted"},
      {unimplemented("m"), StatusCode::Unimplemented, "unimplemented"},
      {unavailable("m"), StatusCode::Unavailable, "unavailable"},
      {cancelled("m"), StatusCode::Cancelled, "cancelled"},
      {dataLoss("m"), StatusCode::DataLoss, "data loss"},
      {internalError("m"), StatusCode::Internal, "internal"},
  };
  for (const Row &row : rows) {
    EXPECT_FALSE(row.status.isOk());
    EXPECT_EQ(row.status.code(), row.code);
    EXPECT_EQ(row.status.message(), "m");
    EXPECT_EQ(statusCodeName(row.code), row.name);
  }
  EXPECT_EQ(statusCodeName(StatusCode::Ok), "ok");
}

TEST(Status, ContextGoesInFront) {
  Status status = dataLoss("is short").withContext("tensor \"a\"").withContext("loading \"x\"");
  EXPECT_EQ(status.code(), StatusCode::DataLoss);
  EXPECT_EQ(status.message(), "loading \"x\": tensor \"a\": is short");
}

TEST(Expected, HoldsAValueOrAStatus) {
  EXPECT_EQ(quarter(12).value(), 3);
  EXPECT_EQ(quarter(6).status().message(), "3 is odd");
  EXPECT_EQ(checkDivisibleByFour(6).message(), "6: no quarter");
  EXPECT_TRUE(checkDivisibleByFour(8).isOk());
}

TEST(Expected, MovesWhatCannotBeCopied) {
  Expected<std::unique_ptr<int>> owner = std::make_unique<int>(7);
  std::unique_ptr<int> taken = std::move(owner).value();
  EXPECT_EQ(*taken, 7);
}

TEST(ExpectedDeathTest, ReadingTheWrongHalfAborts) {
  EXPECT_DEATH((void)half(3).value(), "internal error");
  EXPECT_DEATH((void)half(2).status(), "internal error");
}

}  // namespace
}  // namespace girih
