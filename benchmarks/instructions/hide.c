/* Preloaded into a process, hides AVX-512, VNNI, AVX10 and AMX from everything that asks CPUID, and
 * opens the file that HIDDEN_CPUINFO names in place of /proc/cpuinfo.
 *
 * arch_prctl(ARCH_SET_CPUID, 0) makes CPUID raise SIGSEGV; threads and forked children inherit it,
 * and a program that is executed preloads this again. The handler executes the instruction itself
 * and clears the bits of those sets (Intel SDM, volume 2A, CPUID, leaf 7).
 */
#define _GNU_SOURCE
#include <asm/prctl.h>
#include <cpuid.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <ucontext.h>
#include <unistd.h>

#define BIT(n) (1u << (n))

/* Leaf 7, subleaf 0. EBX: AVX512 F, DQ, IFMA, PF, ER, CD, BW, VL. */
static const uint32_t EBX_7_0 =
    BIT(16) | BIT(17) | BIT(21) | BIT(26) | BIT(27) | BIT(28) | BIT(30) | BIT(31);
/* ECX: AVX512 VBMI, VBMI2, VNNI, BITALG, VPOPCNTDQ. */
static const uint32_t ECX_7_0 = BIT(1) | BIT(6) | BIT(11) | BIT(12) | BIT(14);
/* EDX: AVX512 4VNNIW, 4FMAPS, VP2INTERSECT; AMX-BF16; AVX512 FP16; AMX-TILE, AMX-INT8. */
static const uint32_t EDX_7_0 =
    BIT(2) | BIT(3) | BIT(8) | BIT(22) | BIT(23) | BIT(24) | BIT(25);
/* Subleaf 1. EAX: AVX-VNNI, AVX512 BF16, AMX-FP16, AVX-IFMA. */
static const uint32_t EAX_7_1 = BIT(4) | BIT(5) | BIT(21) | BIT(23);
/* EDX: AVX-VNNI-INT8, AVX-NE-CONVERT, AMX-COMPLEX, AVX-VNNI-INT16, AVX10. */
static const uint32_t EDX_7_1 = BIT(4) | BIT(5) | BIT(8) | BIT(10) | BIT(19);

static void let_cpuid(int allowed) { syscall(SYS_arch_prctl, ARCH_SET_CPUID, allowed); }

static void answer(int number, siginfo_t *info, void *context) {
    (void)info;
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    const uint8_t *instruction = (const uint8_t *)registers[REG_RIP];
    if (instruction[0] != 0x0f || instruction[1] != 0xa2) {
        /* A real fault: executed again, it ends the process as it would have. */
        signal(number, SIG_DFL);
        return;
    }
    uint32_t leaf = (uint32_t)registers[REG_RAX], subleaf = (uint32_t)registers[REG_RCX];
    uint32_t eax, ebx, ecx, edx;
    let_cpuid(1);
    __cpuid_count(leaf, subleaf, eax, ebx, ecx, edx);
    let_cpuid(0);
    if (leaf == 7 && subleaf == 0) {
        ebx &= ~EBX_7_0;
        ecx &= ~ECX_7_0;
        edx &= ~EDX_7_0;
    } else if (leaf == 7 && subleaf == 1) {
        eax &= ~EAX_7_1;
        edx &= ~EDX_7_1;
    }
    registers[REG_RAX] = eax;
    registers[REG_RBX] = ebx;
    registers[REG_RCX] = ecx;
    registers[REG_RDX] = edx;
    registers[REG_RIP] += 2;
}

__attribute__((constructor)) static void hide(void) {
    struct sigaction action = {.sa_sigaction = answer, .sa_flags = SA_SIGINFO | SA_NODEFER};
    sigaction(SIGSEGV, &action, NULL);
    if (syscall(SYS_arch_prctl, ARCH_SET_CPUID, 0) != 0) {
        static const char reason[] = "CPUID cannot be trapped on this processor\n";
        if (write(STDERR_FILENO, reason, sizeof reason - 1) < 0) {
            _exit(70);
        }
        _exit(70);
    }
}

static const char *shown(const char *path) {
    const char *other = getenv("HIDDEN_CPUINFO");
    return other && path && strcmp(path, "/proc/cpuinfo") == 0 ? other : path;
}

/* Both take the place of the C library's, which Python's open() calls. */
#define REPLACE(name)                                                        \
    int name(const char *path, int flags, ...) {                             \
        va_list rest;                                                        \
        va_start(rest, flags);                                               \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
        va_end(rest);                                                        \
        return openat(AT_FDCWD, shown(path), flags, mode);                   \
    }

REPLACE(open)
REPLACE(open64)
