#include "data/pickle.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

enum { MAX_RANK = 64, GLOBAL_ORDERED_DICT = STORED_TYPE_COUNT, GLOBAL_REBUILD_TENSOR, GLOBAL_REBUILD_PARAMETER };

typedef struct machine {
    const uint8_t *begin, *at, *end;
    arena *memory;
    pickle_value **stack;
    size_t height, capacity;
    size_t *mark; /* heights of the stack */
    size_t marks, mark_capacity;
    pickle_value **memo;
    size_t memo_size;
} machine;

static err damaged(const machine *m, const char *what)
{
    return err_set(E_FORMAT, "pickle byte %zu: %s; the file is damaged or not weights", (size_t)(m->at - m->begin),
                   what);
}

static pickle_value *push_value(machine *m, pickle_value *v)
{
    if (m->height == m->capacity) {
        m->capacity = m->capacity ? 2 * m->capacity : 256;
        m->stack = heap_grow(m->stack, m->capacity * sizeof *m->stack);
    }
    return m->stack[m->height++] = v;
}

static pickle_value *push(machine *m, pickle_kind kind)
{
    pickle_value *v = push_value(m, ARENA_NEW(m->memory, pickle_value));
    v->kind = kind;
    return v;
}

/* Values above the last mark may be popped, those below belong to who set it. */
static size_t floor_of(const machine *m)
{
    return m->marks ? m->mark[m->marks - 1] : 0;
}

static pickle_value *pop(machine *m)
{
    return m->height > floor_of(m) ? m->stack[--m->height] : NULL;
}

static err read_bytes(machine *m, const uint8_t **out, uint64_t count)
{
    if ((uint64_t)(m->end - m->at) < count)
        return damaged(m, "a value is longer than the rest");
    *out = m->at;
    m->at += count;
    return OK;
}

static err read_whole(machine *m, uint64_t *out, int bytes)
{
    const uint8_t *at = NULL;
    TRY(read_bytes(m, &at, (uint64_t)bytes));
    *out = 0;
    for (int i = bytes - 1; i >= 0; i--)
        *out = *out << 8 | at[i];
    return OK;
}

static err push_int(machine *m, int bytes, bool is_signed)
{
    uint64_t value = 0;
    TRY(read_whole(m, &value, bytes));
    if (is_signed && bytes < 8 && bytes > 0 && value >> (8 * bytes - 1))
        value |= UINT64_MAX << (8 * bytes);
    push(m, PICKLE_INT)->u.whole = (int64_t)value;
    return OK;
}

static err push_long(machine *m)
{
    uint64_t length = 0;
    TRY(read_whole(m, &length, 1));
    return length > 8 ? damaged(m, "a whole number of more than 64 bits") : push_int(m, (int)length, true);
}

static err push_float(machine *m)
{
    const uint8_t *at = NULL;
    uint64_t bits = 0;
    TRY(read_bytes(m, &at, 8));
    for (int i = 0; i < 8; i++)
        bits = bits << 8 | at[i];
    memcpy(&push(m, PICKLE_FLOAT)->u.real, &bits, sizeof bits);
    return OK;
}

static err push_text(machine *m, int length_bytes)
{
    uint64_t length = 0;
    const uint8_t *at = NULL;
    TRY(read_whole(m, &length, length_bytes));
    TRY(read_bytes(m, &at, length));
    if (memchr(at, 0, (size_t)length) || !text_utf8_valid(NULL, (const char *)at, (size_t)length))
        return damaged(m, "a string is not UTF-8 or contains NUL");
    char *copy = arena_get(m->memory, (size_t)length + 1);
    memcpy(copy, at, (size_t)length);
    push(m, PICKLE_TEXT)->u.text = copy;
    return OK;
}

static void append(machine *m, pickle_value *to, pickle_value *item)
{
    if (to->u.list.count == to->u.list.capacity) {
        size_t capacity = to->u.list.capacity ? 2 * to->u.list.capacity : 8;
        pickle_value **grown = ARENA_ARRAY(m->memory, pickle_value *, capacity);
        if (to->u.list.count)
            memcpy(grown, to->u.list.item, to->u.list.count * sizeof *grown);
        to->u.list.item = grown;
        to->u.list.capacity = capacity;
    }
    to->u.list.item[to->u.list.count++] = item;
}

static err push_tuple(machine *m, size_t count)
{
    if (m->height - floor_of(m) < count)
        return damaged(m, "the stack has too few values for a tuple");
    pickle_value **item = ARENA_ARRAY(m->memory, pickle_value *, count);
    for (size_t i = 0; i < count; i++)
        item[i] = m->stack[m->height - count + i];
    m->height -= count;
    pickle_value *tuple = push(m, PICKLE_TUPLE);
    tuple->u.list.item = item;
    tuple->u.list.count = count;
    return OK;
}

static void set_mark(machine *m)
{
    if (m->marks == m->mark_capacity) {
        m->mark_capacity = m->mark_capacity ? 2 * m->mark_capacity : 64;
        m->mark = heap_grow(m->mark, m->mark_capacity * sizeof *m->mark);
    }
    m->mark[m->marks++] = m->height;
}

static err take_mark(machine *m, size_t *height)
{
    if (m->marks == 0)
        return damaged(m, "no mark on the stack");
    *height = m->mark[--m->marks];
    return OK;
}

static err push_marked_tuple(machine *m)
{
    size_t height = 0;
    TRY(take_mark(m, &height));
    return push_tuple(m, m->height - height);
}

/* Moves everything from `height` up into the list or dict below it. */
static err fill(machine *m, size_t height, pickle_kind kind)
{
    size_t count = m->height - height;
    if (height <= floor_of(m) || m->stack[height - 1]->kind != kind || (kind == PICKLE_DICT && count % 2))
        return damaged(m, kind == PICKLE_DICT ? "items are set in what is no dict"
                                              : "items are appended to what is no list");
    pickle_value *to = m->stack[height - 1];
    for (size_t i = 0; i < count; i++) {
        if (kind == PICKLE_DICT && i % 2 == 0 && m->stack[height + i]->kind != PICKLE_TEXT &&
            m->stack[height + i]->kind != PICKLE_INT)
            return damaged(m, "a dict's key is neither a string nor a whole number");
        append(m, to, m->stack[height + i]);
    }
    m->height = height;
    return OK;
}

static err fill_marked(machine *m, pickle_kind kind)
{
    size_t height = 0;
    TRY(take_mark(m, &height));
    return fill(m, height, kind);
}

static err fill_last(machine *m, pickle_kind kind, size_t count)
{
    return m->height - floor_of(m) < count ? damaged(m, "the stack has too few values")
                                           : fill(m, m->height - count, kind);
}

/* Both lines of GLOBAL, bounded, for the message too. */
static err read_line(machine *m, char line[128])
{
    size_t n = 0;
    while (m->at < m->end && *m->at != '\n' && n < 127)
        line[n++] = (char)*m->at++;
    line[n] = 0;
    if (m->at >= m->end || *m->at != '\n')
        return damaged(m, "a name is too long or cut off");
    m->at++;
    return OK;
}

static err push_global(machine *m)
{
    char module[128], name[128], full[260], shown[300];
    TRY(read_line(m, module));
    TRY(read_line(m, name));
    int global = -1;
    if (strcmp(module, "collections") == 0 && strcmp(name, "OrderedDict") == 0)
        global = GLOBAL_ORDERED_DICT;
    if (strcmp(module, "torch._utils") == 0 && strcmp(name, "_rebuild_tensor_v2") == 0)
        global = GLOBAL_REBUILD_TENSOR;
    if (strcmp(module, "torch._utils") == 0 && strcmp(name, "_rebuild_parameter") == 0)
        global = GLOBAL_REBUILD_PARAMETER;
    for (int t = 0; strcmp(module, "torch") == 0 && t < STORED_TYPE_COUNT; t++) {
        const char *class = stored_type_torch((stored_type)t);
        if (class && strcmp(class, name) == 0)
            global = t;
    }
    if (global < 0) {
        snprintf(full, sizeof full, "%s.%s", module, name);
        return err_set(E_FORMAT,
                       "pickle asks for %s, which plain weights do not need; do not load this file in Python unless "
                       "you trust it, and convert it to safetensors",
                       text_escaped(shown, sizeof shown, full));
    }
    push(m, PICKLE_GLOBAL)->u.global = global;
    return OK;
}

static bool is_tuple(const pickle_value *v, size_t low, size_t high)
{
    return v && v->kind == PICKLE_TUPLE && v->u.list.count >= low && v->u.list.count <= high;
}

/* ("storage", torch.XStorage, KEY, location, count). */
static err push_storage(machine *m)
{
    pickle_value *id = pop(m);
    if (!is_tuple(id, 5, 5))
        return damaged(m, "a persistent id is not a tuple of five");
    pickle_value **item = id->u.list.item;
    if (item[0]->kind != PICKLE_TEXT || strcmp(item[0]->u.text, "storage") != 0 || item[1]->kind != PICKLE_GLOBAL ||
        item[1]->u.global >= STORED_TYPE_COUNT || item[2]->kind != PICKLE_TEXT || item[3]->kind != PICKLE_TEXT ||
        item[4]->kind != PICKLE_INT || item[4]->u.whole < 0)
        return damaged(m, "a persistent id is not ('storage', type, key, location, count)");
    pickle_value *v = push(m, PICKLE_STORAGE);
    v->u.storage.type = (stored_type)item[1]->u.global;
    v->u.storage.key = item[2]->u.text;
    v->u.storage.count = item[4]->u.whole;
    return OK;
}

static bool whole_numbers(int64_t **out, machine *m, const pickle_value *tuple)
{
    *out = ARENA_ARRAY(m->memory, int64_t, tuple->u.list.count);
    for (size_t i = 0; i < tuple->u.list.count; i++) {
        if (tuple->u.list.item[i]->kind != PICKLE_INT)
            return false;
        (*out)[i] = tuple->u.list.item[i]->u.whole;
    }
    return true;
}

/* _rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks[, metadata]) */
static err rebuild_tensor(machine *m, const pickle_value *arguments)
{
    pickle_value **item = arguments->u.list.item;
    int64_t *dim, *stride;
    if (!is_tuple(arguments, 6, 7) || item[0]->kind != PICKLE_STORAGE || item[1]->kind != PICKLE_INT ||
        !is_tuple(item[2], 0, MAX_RANK) || !is_tuple(item[3], item[2]->u.list.count, item[2]->u.list.count) ||
        !whole_numbers(&dim, m, item[2]) || !whole_numbers(&stride, m, item[3]) || item[4]->kind != PICKLE_BOOL)
        return damaged(m, "_rebuild_tensor_v2 is not given (storage, offset, size, stride, requires_grad, hooks)");
    for (size_t i = 0; i < item[2]->u.list.count; i++) {
        if (dim[i] < 0)
            return damaged(m, "a tensor has a negative dimension");
    }
    pickle_value *v = push(m, PICKLE_TENSOR);
    v->u.tensor.storage = item[0];
    v->u.tensor.offset = item[1]->u.whole;
    v->u.tensor.ndim = (int)item[2]->u.list.count;
    v->u.tensor.dim = dim;
    v->u.tensor.stride = stride;
    return OK;
}

static err reduce(machine *m)
{
    pickle_value *arguments = pop(m), *function = pop(m);
    if (!function || function->kind != PICKLE_GLOBAL || arguments->kind != PICKLE_TUPLE)
        return damaged(m, "REDUCE without a function and its arguments");
    switch (function->u.global) {
    case GLOBAL_ORDERED_DICT:
        if (arguments->u.list.count)
            return damaged(m, "OrderedDict is given arguments");
        push(m, PICKLE_DICT);
        return OK;
    case GLOBAL_REBUILD_TENSOR:
        return rebuild_tensor(m, arguments);
    case GLOBAL_REBUILD_PARAMETER: /* (tensor, requires_grad, hooks) */
        if (arguments->u.list.count != 3 || arguments->u.list.item[0]->kind != PICKLE_TENSOR)
            return damaged(m, "_rebuild_parameter is not given (tensor, requires_grad, hooks)");
        *push(m, PICKLE_TENSOR) = *arguments->u.list.item[0];
        return OK;
    default:
        return damaged(m, "a storage class is called");
    }
}

/* Only a state dict's _metadata comes this way; it names versions of modules, which weights do not need. */
static err build(machine *m)
{
    pickle_value *state = pop(m);
    if (!state || m->height <= floor_of(m) || m->stack[m->height - 1]->kind != PICKLE_DICT)
        return damaged(m, "BUILD on what is no dict");
    return OK;
}

static err memo_put(machine *m, int bytes)
{
    uint64_t index = 0;
    TRY(read_whole(m, &index, bytes));
    if (m->height <= floor_of(m))
        return damaged(m, "nothing to remember on the stack");
    if (index >= (uint64_t)(m->end - m->begin)) /* Python counts from 0, so no honest index is larger */
        return damaged(m, "a memo index is larger than the pickle");
    if (index >= m->memo_size) {
        size_t size = (size_t)index + 1 > 2 * m->memo_size ? (size_t)index + 1 : 2 * m->memo_size;
        m->memo = heap_grow(m->memo, size * sizeof *m->memo);
        memset(m->memo + m->memo_size, 0, (size - m->memo_size) * sizeof *m->memo);
        m->memo_size = size;
    }
    m->memo[index] = m->stack[m->height - 1];
    return OK;
}

static err memo_get(machine *m, int bytes)
{
    uint64_t index = 0;
    TRY(read_whole(m, &index, bytes));
    if (index >= m->memo_size || !m->memo[index])
        return damaged(m, "a memo index was never set");
    push_value(m, m->memo[index]);
    return OK;
}

static err unknown_opcode(machine *m, uint8_t code)
{
    static const struct {
        uint8_t code;
        const char *name;
    } names[] = {
        {'0', "POP"}, {'1', "POP_MARK"}, {'2', "DUP"}, {'F', "FLOAT"}, {'I', "INT"}, {'L', "LONG"}, {'P', "PERSID"},
        {'S', "STRING"}, {'T', "BINSTRING"}, {'V', "UNICODE"}, {'d', "DICT"}, {'g', "GET"}, {'i', "INST"},
        {'l', "LIST"}, {'o', "OBJ"}, {'p', "PUT"}, {0x81, "NEWOBJ"}, {0x82, "EXT1"}, {0x83, "EXT2"}, {0x84, "EXT4"},
        {0x8B, "LONG4"}, {0x8C, "SHORT_BINUNICODE"}, {0x8F, "EMPTY_SET"}, {0x92, "NEWOBJ_EX"}, {0x93, "STACK_GLOBAL"},
        {0x94, "MEMOIZE"}, {0x95, "FRAME"},
    };
    const char *name = "unknown";
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        name = names[i].code == code ? names[i].name : name;
    return err_set(E_FORMAT,
                   "pickle byte %zu: opcode 0x%02x (%s), which torch.save does not write for weights; convert the "
                   "file to safetensors",
                   (size_t)(m->at - m->begin) - 1, code, name);
}

static err read_protocol(machine *m)
{
    uint64_t protocol = 0;
    TRY(read_whole(m, &protocol, 1));
    if (protocol != 2 && protocol != 3)
        return err_set(E_FORMAT, "pickle protocol %llu, torch.save writes 2; save the file again with torch.save",
                       (unsigned long long)protocol);
    return OK;
}

static err step(machine *m, uint8_t code)
{
    switch (code) {
    case '}': push(m, PICKLE_DICT); return OK;
    case ']': push(m, PICKLE_LIST); return OK;
    case ')': return push_tuple(m, 0);
    case '(': set_mark(m); return OK;
    case 't': return push_marked_tuple(m);
    case 0x85: return push_tuple(m, 1);
    case 0x86: return push_tuple(m, 2);
    case 0x87: return push_tuple(m, 3);
    case 's': return fill_last(m, PICKLE_DICT, 2);
    case 'u': return fill_marked(m, PICKLE_DICT);
    case 'a': return fill_last(m, PICKLE_LIST, 1);
    case 'e': return fill_marked(m, PICKLE_LIST);
    case 'N': push(m, PICKLE_NONE); return OK;
    case 0x88: push(m, PICKLE_BOOL)->u.whole = 1; return OK;
    case 0x89: push(m, PICKLE_BOOL); return OK;
    case 'J': return push_int(m, 4, true);
    case 'K': return push_int(m, 1, false);
    case 'M': return push_int(m, 2, false);
    case 0x8A: return push_long(m);
    case 'G': return push_float(m);
    case 'X': return push_text(m, 4);
    case 'U': return push_text(m, 1);
    case 'q': return memo_put(m, 1);
    case 'r': return memo_put(m, 4);
    case 'h': return memo_get(m, 1);
    case 'j': return memo_get(m, 4);
    case 'c': return push_global(m);
    case 'R': return reduce(m);
    case 'b': return build(m);
    case 'Q': return push_storage(m);
    default: return unknown_opcode(m, code);
    }
}

static err run(machine *m)
{
    if (m->end - m->at < 2 || *m->at != 0x80)
        return err_set(E_FORMAT, "pickle does not begin with PROTO; save the file again with torch.save");
    m->at++;
    TRY(read_protocol(m));
    while (m->at < m->end) {
        uint8_t code = *m->at++;
        if (code != '.') {
            TRY(step(m, code));
            continue;
        }
        if (m->height != 1 || m->marks)
            return damaged(m, "STOP with other than one value");
        return m->at == m->end ? OK : damaged(m, "bytes behind STOP");
    }
    return damaged(m, "STOP is missing");
}

err pickle_load(pickle_value **out, arena *memory, const uint8_t *bytes, size_t size)
{
    machine m = {.begin = bytes, .at = bytes, .end = bytes + size, .memory = memory};
    err e = run(&m);
    if (!e)
        *out = m.stack[0];
    free(m.stack);
    free(m.mark);
    free(m.memo);
    return e;
}
