#include "data/gpt2_merge.h"

#include <algorithm>
#include <array>
#include <functional>
#include <queue>
#include <utility>

namespace power::data {
namespace {

constexpr size_t kScanLimit = 64;  // longer words take the heap

uint32_t rank_of(const Gpt2Tables& tables, std::string_view word, size_t begin, size_t end) {
  return end - begin == 2 ? tables.find_pair(word.data() + begin) : tables.find(word.data() + begin, end - begin);
}

uint16_t part_id(const Gpt2Tables& tables, std::string_view word, size_t begin, size_t end) {
  if (end - begin == 1) return tables.byte_token(static_cast<unsigned char>(word[begin]));
  return static_cast<uint16_t>(rank_of(tables, word, begin, end));
}

// Looks at every neighbour pair for each merge: quadratic, the quickest for ordinary words.
void merge_by_scan(const Gpt2Tables& tables, std::string_view word, std::vector<uint16_t>& ids) {
  struct Part {
    uint32_t begin;
    uint32_t rank;  // of this part joined with the next
  };
  std::array<Part, kScanLimit + 1> parts;
  size_t count = word.size();  // parts[count] marks the end
  for (size_t i = 0; i <= count; ++i) {
    parts[i] = {static_cast<uint32_t>(i), i + 1 < count ? tables.find_pair(word.data() + i) : Gpt2Tables::kNone};
  }
  const auto rank_at = [&](size_t i) {
    return i + 2 <= count ? rank_of(tables, word, parts[i].begin, parts[i + 2].begin) : Gpt2Tables::kNone;
  };
  for (;;) {
    size_t best = 0;
    for (size_t i = 1; i + 1 < count; ++i) {
      if (parts[i].rank < parts[best].rank) best = i;
    }
    if (parts[best].rank == Gpt2Tables::kNone) break;
    std::copy(parts.begin() + static_cast<std::ptrdiff_t>(best) + 2,
              parts.begin() + static_cast<std::ptrdiff_t>(count) + 1,
              parts.begin() + static_cast<std::ptrdiff_t>(best) + 1);
    --count;
    parts[best].rank = rank_at(best);
    if (best > 0) parts[best - 1].rank = rank_at(best - 1);
  }
  for (size_t i = 0; i < count; ++i) ids.push_back(part_id(tables, word, parts[i].begin, parts[i + 1].begin));
}

// n log n: candidates wait in a heap by (rank, place); those whose parts have changed since are passed over.
void merge_by_heap(const Gpt2Tables& tables, std::string_view word, std::vector<uint16_t>& ids) {
  struct Candidate {
    uint32_t rank;
    size_t left, end;  // the bytes [left, end) of both parts
    bool operator>(const Candidate& other) const { return rank != other.rank ? rank > other.rank : left > other.left; }
  };
  const size_t size = word.size();
  // By the first byte of a part: where it ends (0: no part begins here) and where the part before it begins.
  std::vector<size_t> end_of(size), before(size + 1);
  std::vector<Candidate> pairs;
  for (size_t i = 0; i < size; ++i) {
    end_of[i] = i + 1;
    before[i + 1] = i;
    const uint32_t rank = i + 1 < size ? tables.find_pair(word.data() + i) : Gpt2Tables::kNone;
    if (rank != Gpt2Tables::kNone) pairs.push_back({rank, i, i + 2});
  }
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> heap(std::greater<>(), std::move(pairs));
  const auto offer = [&](size_t left) {
    const size_t middle = end_of[left];
    if (middle >= size) return;
    const size_t end = end_of[middle];
    const uint32_t rank = rank_of(tables, word, left, end);
    if (rank != Gpt2Tables::kNone) heap.push({rank, left, end});
  };
  while (!heap.empty()) {
    const Candidate top = heap.top();
    heap.pop();
    const size_t middle = end_of[top.left];
    if (middle == 0 || middle >= size || middle >= top.end || end_of[middle] != top.end) continue;
    end_of[top.left] = top.end;
    end_of[middle] = 0;
    before[top.end] = top.left;
    offer(top.left);
    if (top.left > 0) offer(before[top.left]);
  }
  for (size_t begin = 0; begin < size; begin = end_of[begin]) {
    ids.push_back(part_id(tables, word, begin, end_of[begin]));
  }
}

}  // namespace

void gpt2_merge(const Gpt2Tables& tables, std::string_view word, std::vector<uint16_t>& ids) {
  if (word.size() <= kScanLimit) {
    merge_by_scan(tables, word, ids);
  } else {
    merge_by_heap(tables, word, ids);
  }
}

}  // namespace power::data
