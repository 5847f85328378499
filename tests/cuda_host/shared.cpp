#include "shared.h"
#include "host.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <cxxabi.h>
#include <elf.h>
#include <map>
#include <mutex>

/* Their symbols tell where the program's code and each thread's storage lie. */
extern "C" {
thread_local char cuda_host_storage_anchor = 1;
void              cuda_host_code_anchor(void) {}
}

namespace cuda_host {

namespace {

struct symbols {
    std::multimap<uintptr_t, std::string>        functions; /* by address in the file */
    std::map<std::string, bool>                  names;
    std::vector<std::pair<std::string, variable>> storage; /* "_ZZ...": of functions */
    uintptr_t                                    code = 0;
    int64_t                                      anchor = 0;
    std::mutex                                   lock;
    std::map<const void *, std::vector<variable>> of;
};

std::vector<char> whole_file(const char *name)
{
    FILE *file = fopen(name, "rb");
    if (!file) {
        perror(name);
        abort();
    }
    fseek(file, 0, SEEK_END);
    std::vector<char> bytes((size_t)ftell(file));
    rewind(file);
    if (fread(bytes.data(), 1, bytes.size(), file) != bytes.size())
        abort();
    fclose(file);
    return bytes;
}

void take(symbols &all, const Elf64_Sym &symbol, const char *name)
{
    unsigned type = ELF64_ST_TYPE(symbol.st_info);
    if (type == STT_TLS && strcmp(name, "cuda_host_storage_anchor") == 0)
        all.anchor = (int64_t)symbol.st_value;
    if (type == STT_FUNC && strcmp(name, "cuda_host_code_anchor") == 0)
        all.code = (uintptr_t)cuda_host_code_anchor - symbol.st_value;
    if (type == STT_TLS && strncmp(name, "_ZZ", 3) == 0)
        all.storage.push_back({name, {(int64_t)symbol.st_value, symbol.st_size}});
    if (type == STT_FUNC && symbol.st_value && strncmp(name, "_Z", 2) == 0) {
        all.functions.insert({symbol.st_value, name});
        all.names[name] = true;
    }
}

symbols *read_symbols()
{
    symbols          *all = new symbols;
    std::vector<char> file = whole_file("/proc/self/exe");
    const Elf64_Ehdr *head = (const Elf64_Ehdr *)file.data();
    const Elf64_Shdr *sections = (const Elf64_Shdr *)(file.data() + head->e_shoff);
    for (int i = 0; i < head->e_shnum; i++) {
        if (sections[i].sh_type != SHT_SYMTAB)
            continue;
        const Elf64_Sym *symbol = (const Elf64_Sym *)(file.data() + sections[i].sh_offset);
        const char      *names = file.data() + sections[sections[i].sh_link].sh_offset;
        for (size_t k = 0; k < sections[i].sh_size / sizeof *symbol; k++)
            take(*all, symbol[k], names + symbol[k].st_name);
    }
    if (!all->code) {
        fprintf(stderr, "cuda_host: the program has no table of symbols: shared variables cannot be found; do not strip it\n");
        abort();
    }
    return all;
}

symbols &table()
{
    static symbols *all = read_symbols();
    return *all;
}

/* Whether `name`, "_ZZ<function>E<variable>", is of the function "_Z<function>", or of one that was inlined everywhere. */
bool belongs(const symbols &all, const std::string &name, const std::string &function)
{
    if (name.compare(2, function.size() - 1, function, 1, std::string::npos) == 0 && name[function.size() + 1] == 'E')
        return true;
    for (size_t end = name.find('E', 3); end != std::string::npos; end = name.find('E', end + 1))
        if (all.names.count("_Z" + name.substr(3, end - 3)))
            return false;
    return true;
}

} // namespace

const std::vector<variable> &shared_variables(const void *kernel)
{
    symbols                    &all = table();
    std::lock_guard<std::mutex> hold(all.lock);
    auto                        found = all.of.find(kernel);
    if (found != all.of.end())
        return found->second;
    std::vector<variable> &mine = all.of[kernel];
    auto                   range = all.functions.equal_range((uintptr_t)kernel - all.code);
    for (auto &[name, v] : all.storage)
        for (auto it = range.first; it != range.second; ++it)
            if (belongs(all, name, it->second)) {
                mine.push_back({v.offset - all.anchor, v.bytes});
                break;
            }
    return mine;
}

std::string kernel_name(const void *kernel)
{
    auto it = table().functions.find((uintptr_t)kernel - table().code);
    if (it == table().functions.end())
        return "unknown";
    int         status;
    char       *text = abi::__cxa_demangle(it->second.c_str(), nullptr, nullptr, &status);
    std::string name = text ? text : it->second;
    free(text);
    size_t end = name.rfind('(');
    if (name.compare(0, 5, "void ") == 0)
        return name.substr(5, end - 5);
    return name.substr(0, end);
}

void poison(const std::vector<variable> &variables)
{
    char *anchor = &cuda_host_storage_anchor;
    for (const variable &v : variables)
        memset(anchor + v.offset, POISON, v.bytes);
}

} // namespace cuda_host
