// Reads a file of PTX into kernels that can run.
//
// What it does not know is an error that names file and line, when the file is read and not when a kernel
// runs: instructions and modifiers that ptx_forms.h has no row for, device functions with parameters or results,
// clusters, texture and surface objects, variables without a value (the host could not see the device's
// copy).
#ifndef OCT_TESTS_PTX_PARSER_H
#define OCT_TESTS_PTX_PARSER_H

#include <memory>
#include <string>

#include "ptx_program.h"

namespace ptx
{

// Parses the text of a file; `path` is for messages. Throws `error` (ptx_tokens.h).
std::unique_ptr<module> parse_module(const std::string &source, const std::string &path);

// The same for a file on disk.
std::unique_ptr<module> parse_file(const std::string &path);

} // namespace ptx

#endif
