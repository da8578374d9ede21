// For builds with the address sanitizer: libraries that MPI loads stay loaded, so that the leak report knows whose
// memory it is and tests/sanitizers/leak.txt can leave MPI's out.
#if defined(__SANITIZE_ADDRESS__)
int dlclose(void *library);

int dlclose(void *library)
{
    (void)library;
    return 0;
}
#else
typedef int oct_sanitizer_nothing; // a translation unit must not be empty
#endif
