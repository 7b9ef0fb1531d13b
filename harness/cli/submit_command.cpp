// `concord submit`: a finished conformance run as a bundle that can be judged elsewhere.
#include <fmt/format.h>

#include <memory>

#include "cli/command.hpp"
#include "conformance/bundle/submit.hpp"

namespace concord::cli {
using namespace conformance;

void add_submit_command(CLI::App& root, Context& context) {
  auto o = std::make_shared<SubmitSettings>();
  CLI::App* c = root.add_subcommand("submit", "Make a bundle of a conformance run, for concord judge on any machine");
  c->add_option("RUN", o->run, "Folder that concord conform wrote")->required();
  c->add_option("--out", o->out, "Folder to make; must not be there yet")->required();
  c->add_option("--statement", o->statement,
                "What you have to say about the run; stands in the bundle, judged by nobody")
      ->check([](const std::string& text) {
        return text.size() <= 10'000 ? std::string() : std::string("longer than 10000 bytes");
      });
  c->callback([o, &context] {
    const auto manifest = submit_run(*o);
    if (!manifest) return context.fail(manifest.error());
    std::uint64_t bytes = 0;
    for (const BundleFile& f : manifest->files) bytes += f.bytes;
    fmt::print(
        "bundle    {}\nrecords   {}, tier {}, seed {}\noutputs   {} saved\nlists     {}\nfiles     {}, {:.1f} MB\n",
        o->out, manifest->records, tier_name(manifest->tier), manifest->seed, manifest->outputs,
        manifest->lists.empty() ? "none: the verdict will be PARTIAL at best" : std::to_string(manifest->lists.size()),
        manifest->files.size() + 1, static_cast<double>(bytes) * 1e-6);
    if (manifest->outputs < manifest->records)
      fmt::print(
          "note: {} records without saved outputs are judged from their numbers; concord conform --save all keeps "
          "them\n",
          manifest->records - manifest->outputs);
  });
}

}  // namespace concord::cli
