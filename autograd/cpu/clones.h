/* CPU_CLONES: the function is compiled for AVX-512, AVX2 and plain x86-64, and the loader takes the widest that
 * the machine has. Loops that call no other function vectorise in each. Sanitizers cannot run before the loader is
 * done, so there the plain one is used alone. */
#ifndef MSD_AUTOGRAD_CPU_CLONES_H
#define MSD_AUTOGRAD_CPU_CLONES_H

#if defined(__SANITIZE_ADDRESS__)
#define CPU_CLONES
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CPU_CLONES
#endif
#endif
#if !defined(CPU_CLONES) && defined(__x86_64__) && defined(__gnu_linux__)
#if defined(__clang__) || __GNUC__ < 12 /* clang's loader code does not look whether the machine is of such a level */
#define CPU_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else /* AVX-512 with its 16-bit lanes, for bf16; AVX2 */
#define CPU_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#endif
#elif !defined(CPU_CLONES)
#define CPU_CLONES
#endif

/* Elements that one thread takes at a time in elementwise work. */
enum { CPU_CHUNK = 16384 };

#endif
