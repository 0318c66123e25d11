# Compiling for 64-bit Arm on x86-64, for the scripts that source this: `arm_environment` installs what is missing and sets cargo's variables.
# Needs Debian and cargo; adds Debian's Arm architecture, Debian's compiler, which has a standard library for Arm, a linker and the emulator.
. scripts/packages.sh
arm=aarch64-unknown-linux-gnu

arm_environment() {
    local missing=()
    [ -x /usr/bin/rustc ] && [ -d "/usr/lib/rustlib/$arm" ] || missing+=(rustc-web libstd-rust-web-dev:arm64)
    command -v aarch64-linux-gnu-gcc >/dev/null || missing+=(gcc-aarch64-linux-gnu)
    [ -e /usr/aarch64-linux-gnu/include/stdint.h ] || missing+=(libc6-dev-arm64-cross)
    command -v qemu-aarch64-static >/dev/null || missing+=(qemu-user-static)
    if [ ${#missing[@]} -gt 0 ]; then
        command -v dpkg >/dev/null && as_root dpkg --add-architecture arm64
        packages "${missing[@]}"
    fi
    command -v cargo >/dev/null || . "$HOME/.cargo/env"
    export RUSTC=/usr/bin/rustc
    # Another compiler than that of the other builds.
    export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/aarch64
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
    # The C library is Arm's own package: that of the cross compiler's sysroot (2.36-8cross1) never returns from pthread_create.
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER='qemu-aarch64-static -L /'
    # Compiling takes longer than emulating; so no second optimisation of the whole.
    export CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16
    "$RUSTC" --version
}
