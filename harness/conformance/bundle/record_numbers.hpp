// Do the numbers of a record agree with the case's shape, with each other, and with numbers that were computed again.
// Internal to judging bundles.
#pragma once
#include <string>
#include <vector>

#include "conformance/run/evidence.hpp"

namespace concord::conformance {

// Of what must be so whatever the device computed: the outputs of the case, counts within their ranges, coordinates
// that exist, a margin that is that of the worst element. One sentence for each contradiction.
std::vector<std::string> own_contradictions(const Problem& problem, const Evidence& evidence);

// The recorded findings against those made from the saved outputs. Counts, places and the device's values must be
// equal. What comes from the oracle may differ by oracle_slack().
std::vector<std::string> findings_contradictions(const std::vector<OutputFindings>& recorded,
                                                 const std::vector<OutputFindings>& found);

// The recorded first and worst element of each output against the oracle. `shape`: findings of any outputs of the case,
// for what does not depend on the device.
std::vector<std::string> oracle_contradictions(const std::vector<OutputFindings>& recorded,
                                               const std::vector<OutputFindings>& shape,
                                               const Expectation& expectation);

// How far two float64 oracles may be from each other at one element: their exp, sin and their like come from the C
// library of the host and may differ in the last bit. The rigorous bound counts the same roundings in the device's
// precision, 2^-24 or wider; in float64 they are 2^-29 of it or less. 2^-20 leaves 2^9 for library functions that are
// worse than half an ulp. Where the bound is 0 the oracle's value is exact or a few roundings away: 2^-40 of it.
double oracle_slack(double want, double rigorous);

}  // namespace concord::conformance
