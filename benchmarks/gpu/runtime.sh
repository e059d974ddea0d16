#!/bin/bash
# runtime.sh DIR: a folder with TensorRT 8.6.1, the CUDA runtime and Python 3.11 that runs on any x86-64 Linux with an NVIDIA driver.
# TensorRT comes from Maven Central (the Bytedeco redistribution of NVIDIA's libraries), the rest from PyPI.
set -euo pipefail

readonly jar_url=https://repo1.maven.org/maven2/org/bytedeco/tensorrt/8.6-1.5.9/tensorrt-8.6-1.5.9-linux-x86_64-redist.jar
readonly jar_sha256=cc424ba5c971f545941d901037e7d4a7575f389074d6b68ca4eb81f16e6dc0c6
readonly libraries=(libnvinfer.so.8 libnvinfer_builder_resource.so.8.6.1 libnvinfer_plugin.so.8 libnvonnxparser.so.8 libnvparsers.so.8)
python=${PYTHON:-python3.11}

fetch_libraries() {
    local into=$1 jar=$1/tensorrt.jar
    [[ -f $jar ]] || curl -fL --retry 3 -o "$jar" "$jar_url"
    echo "$jar_sha256  $jar" | sha256sum --check --quiet
    unzip -joq "$jar" "${libraries[@]/#/org/bytedeco/tensorrt/linux-x86_64/}" -d "$into/lib"
    rm "$jar"
}

# The ONNX parser loads TensorRT's plugin library, which wants cuBLAS and cuDNN (1.4 GB) for plugins that no graph here has:
# libraries that only have the names are enough.
write_stand_in() {
    local into=$1 name=$2 version=$3
    local library=lib$name.so.$version
    nm -D --undefined-only "$into/lib/libnvinfer_plugin.so.8" |
        sed -n "s/.* U \(.*\)@$library\$/int \1(void) { return 1; }/p" >"$into/stub/$name.c"
    echo "$library { global: *; };" >"$into/stub/$name.map"
    gcc -w -shared -fPIC -o "$into/stub/$library" -Wl,-soname,"$library" -Wl,--version-script="$into/stub/$name.map" "$into/stub/$name.c"
    rm "$into/stub/$name.c" "$into/stub/$name.map"
}

copy_python() {
    local into=$1 prefix
    prefix=$("$python" -c 'import sysconfig; print(sysconfig.get_config_var("prefix"))')
    mkdir -p "$into/bin" "$into/lib"
    cp -L "$prefix/bin/python3.11" "$into/bin/"
    cp -L "$prefix/lib/libpython3.11.so.1.0" "$into/lib/"
    # ctypes and zlib are linked to libraries that a bare machine may lack.
    ldconfig -p | sed -n 's/.*=> \(.*\/x86_64-linux-gnu\/lib\(ffi\.so\.8\|z\.so\.1\)\)$/\1/p' | xargs -I{} cp -L {} "$into/lib/"
    tar -C "$prefix/lib" --exclude=test --exclude=idlelib --exclude=tkinter --exclude=lib2to3 --exclude=ensurepip \
        --exclude='config-*' --exclude=site-packages --exclude=__pycache__ -cf - python3.11 | tar -C "$into/lib" -xf -
    "$python" -m pip install --quiet --no-deps --target "$into/lib/python3.11/site-packages" \
        numpy==1.26.4 onnx==1.16.2 protobuf==5.29.5 tensorrt-bindings==8.6.1 nvidia-cuda-runtime-cu12==12.1.105
}

main() {
    local into=$1
    mkdir -p "$into/lib" "$into/stub"
    fetch_libraries "$into"
    write_stand_in "$into" cublas 12
    write_stand_in "$into" cublasLt 12
    write_stand_in "$into" cudnn 8
    copy_python "$into/python"
    (cd "$into" && find . -type f ! -name SHA256SUMS -exec sha256sum {} +) >"$into.sha256"
    mv "$into.sha256" "$into/SHA256SUMS"
}

main "${1:?usage: runtime.sh DIR}"
