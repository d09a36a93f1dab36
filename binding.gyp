{
  "targets": [
    {
      "target_name": "snapbak",
      "sources": [
        "<!@(node -p \"require('fs').readdirSync('native/binding').filter(f=>f.endsWith('.cc')).map(f=>'native/binding/'+f).join(' ')\")",
        "<!@(node -p \"require('fs').readdirSync('native/blocks').filter(f=>f.endsWith('.cc')).map(f=>'native/blocks/'+f).join(' ')\")",
        "<!@(node -p \"require('fs').readdirSync('native/copy').filter(f=>f.endsWith('.cc')).map(f=>'native/copy/'+f).join(' ')\")",
        "<!@(node -p \"require('fs').readdirSync('native/driver').filter(f=>f.endsWith('.cc')).map(f=>'native/driver/'+f).join(' ')\")",
        "<!@(node -p \"require('fs').readdirSync('native/export').filter(f=>f.endsWith('.cc')).map(f=>'native/export/'+f).join(' ')\")",
        "kernel-module/core/snapbak_bitmap.c",
        "kernel-module/core/snapbak_layout.c",
        "kernel-module/core/snapbak_slots.c",
        "kernel-module/core/snapbak_throttle.c"
      ],
      "dependencies": [
        "<!(node -p \"require('node-addon-api').targets\"):node_addon_api_except"
      ],
      # the last: an exception in a worker that is being terminated must not end the process
      "defines": ["NAPI_VERSION=8", "_GNU_SOURCE", "_FILE_OFFSET_BITS=64", "NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS"],
      "cflags": ["-Wall", "-Wextra", "-Werror", "-fvisibility=hidden", "-O2"],
      "cflags_cc": ["-std=c++17"],
      "cflags_c": ["-std=gnu11"],
      "libraries": ["-lblkid"]
    }
  ]
}
