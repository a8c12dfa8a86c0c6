// Empty: a target that compiles the libraries' precompiled header needs a source.
