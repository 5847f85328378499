#include "base/hash.h"

#include <openssl/evp.h>

#include "base/error.h"

hash_state *hash_start(void)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    CHECK(context && EVP_DigestInit_ex(context, EVP_sha256(), NULL) == 1, "OpenSSL has no SHA-256");
    return (hash_state *)context;
}

void hash_add(hash_state *h, const void *bytes, size_t size)
{
    int done = EVP_DigestUpdate((EVP_MD_CTX *)h, bytes, size);
    CHECK(done == 1, "SHA-256 of %zu bytes", size);
}

void hash_end(char hex[65], hash_state *h)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int size = 0;
    int done = EVP_DigestFinal_ex((EVP_MD_CTX *)h, digest, &size);
    CHECK(done == 1 && size == 32, "SHA-256 gave %u bytes", size);
    EVP_MD_CTX_free((EVP_MD_CTX *)h);
    hex_encode(hex, digest, size);
}

void hash_memory(char hex[65], const void *bytes, size_t size)
{
    hash_state *h = hash_start();
    hash_add(h, bytes, size);
    hash_end(hex, h);
}

uint64_t hash_fnv1a(const void *bytes, size_t size)
{
    const uint8_t *b = bytes;
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < size; i++)
        h = (h ^ b[i]) * 0x100000001b3u;
    return h;
}

void hex_encode(char *out, const uint8_t *bytes, size_t size)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < size; i++) {
        out[2 * i] = digits[bytes[i] >> 4];
        out[2 * i + 1] = digits[bytes[i] & 15];
    }
    out[2 * size] = 0;
}
