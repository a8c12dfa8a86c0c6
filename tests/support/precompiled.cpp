// CMake compiles the precompiled headers of bitnet_test_headers for the sake of this file.
