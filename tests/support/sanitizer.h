/* What the tests are watched by. */
#ifndef LAGOON_TESTS_SUPPORT_SANITIZER_H
#define LAGOON_TESTS_SUPPORT_SANITIZER_H

#if defined(__SANITIZE_THREAD__)
enum { THREADS_ARE_WATCHED = 1 };
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
enum { THREADS_ARE_WATCHED = 1 };
#else
enum { THREADS_ARE_WATCHED = 0 };
#endif
#else
enum { THREADS_ARE_WATCHED = 0 };
#endif

/* For simulations that take seconds: they have one thread, and under ThreadSanitizer would take minutes. */
#define SKIP_WHERE_THREADS_ARE_WATCHED()                                                                               \
    do {                                                                                                               \
        if (THREADS_ARE_WATCHED) {                                                                                     \
            puts("SKIP: a simulation has one thread: ThreadSanitizer would take minutes to find nothing");             \
            return;                                                                                                    \
        }                                                                                                              \
    } while (0)

#endif
