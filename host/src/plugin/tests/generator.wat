;; A generator whose first record number picks what it does. Records are empty.
;; It refuses any configuration that is not two bytes long, with that configuration as the message.
(component
  (import "wasmill:plugin/log@0.1.0" (instance $log
    (type $levels (enum "debug" "info" "warn" "error"))
    (export "level" (type $level (eq $levels)))
    (export "log" (func (param "level" $level) (param "message" string)))))
  (import "wasi:cli/environment@0.2.0" (instance $wasi
    (export "get-environment" (func (result (list string))))))

  (core module $memory-module
    (memory (export "memory") 2)
    (data (i32.const 1024) "boom")
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 65536)))
  (core instance $m (instantiate $memory-module))
  (alias core export $m "memory" (core memory $memory))
  (core func $log-lowered (canon lower (func $log "log") (memory $memory)))
  (core func $wasi-lowered (canon lower (func $wasi "get-environment") (memory $memory) (realloc (core func $m "realloc"))))

  (core module $guest
    (import "m" "memory" (memory 2))
    (import "host" "log" (func $log (param i32 i32 i32)))
    (import "host" "environment" (func $environment (param i32)))

    (func (export "init") (param $config i32) (param $length i32) (param $seed i64) (result i32)
      (i32.store8 (i32.const 16) (i32.ne (local.get $length) (i32.const 2)))
      (i32.store (i32.const 20) (local.get $config))
      (i32.store (i32.const 24) (local.get $length))
      (i32.const 16))

    (func (export "generate") (param $first i64) (param $times i32) (param $count i32) (result i32)
      (local $lines i32)
      ;; The honest answer: a zero offset more than there are records, no bytes, no keys.
      (i32.store (i32.const 64) (i32.const 4096))
      (i32.store (i32.const 68) (i32.add (local.get $count) (i32.const 1)))
      (i32.store (i32.const 72) (i32.const 0))
      (i32.store (i32.const 76) (i32.const 0))
      (i32.store (i32.const 80) (i32.const 0))

      (if (i64.eq (local.get $first) (i64.const 1)) (then (unreachable)))
      (if (i64.eq (local.get $first) (i64.const 2)) (then (loop $forever (br $forever))))
      (if (i64.eq (local.get $first) (i64.const 3)) (then
        (loop $more
          (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))
        (unreachable)))
      (if (i64.eq (local.get $first) (i64.const 4)) (then
        (i32.store (i32.const 68) (local.get $count))))
      (if (i64.eq (local.get $first) (i64.const 5)) (then
        (call $log (i32.const 3) (i32.const 1024) (i32.const 4))
        (unreachable)))
      (if (i64.eq (local.get $first) (i64.const 6)) (then
        (loop $again
          (call $log (i32.const 1) (i32.const 1024) (i32.const 4))
          (local.set $lines (i32.add (local.get $lines) (i32.const 1)))
          (br_if $again (i32.lt_u (local.get $lines) (i32.const 100000))))))
      (if (i64.eq (local.get $first) (i64.const 7)) (then
        (i32.store (i32.const 72) (i32.const 0x7fffff00))
        (i32.store (i32.const 76) (i32.const 4))))
      (if (i64.eq (local.get $first) (i64.const 8)) (then (call $environment (i32.const 512))))
      (if (i64.eq (local.get $first) (i64.const 9)) (then
        (i32.store (i32.const 76) (i32.const 100000))))
      (i32.const 64)))
  (core instance $g (instantiate $guest
    (with "m" (instance $m))
    (with "host" (instance
      (export "log" (func $log-lowered))
      (export "environment" (func $wasi-lowered))))))

  (type $varlen (record (field "offsets" (list u32)) (field "bytes" (list u8))))
  (type $init-type (func (param "config" string) (param "seed" u64) (result (result (error string)))))
  (func $init (type $init-type)
    (canon lift (core func $g "init") (memory $memory) (realloc (core func $m "realloc"))))

  (component $interface
    (type $varlen-in (record (field "offsets" (list u32)) (field "bytes" (list u8))))
    (import "varlen" (type $varlen (eq $varlen-in)))
    (type $generated-in (record (field "values" $varlen) (field "keys" (option $varlen))))
    (import "generated" (type $generated (eq $generated-in)))
    (import "init" (func $init (param "config" string) (param "seed" u64) (result (result (error string)))))
    (import "generate" (func $generate (param "first" u64) (param "times" (list s64)) (result $generated)))
    ;; What is exported is defined anew, of exported names only.
    (type $varlen-out (record (field "offsets" (list u32)) (field "bytes" (list u8))))
    (export $varlen-named "varlen" (type $varlen-out))
    (type $generated-out (record (field "values" $varlen-named) (field "keys" (option $varlen-named))))
    (export $generated-named "generated" (type $generated-out))
    (export "init" (func $init))
    (export "generate" (func $generate)
      (func (param "first" u64) (param "times" (list s64)) (result $generated-named))))

  (type $generated (record (field "values" $varlen) (field "keys" (option $varlen))))
  (type $generate-type (func (param "first" u64) (param "times" (list s64)) (result $generated)))
  (func $generate (type $generate-type)
    (canon lift (core func $g "generate") (memory $memory) (realloc (core func $m "realloc"))))

  (instance $exports (instantiate $interface
    (with "varlen" (type $varlen))
    (with "generated" (type $generated))
    (with "init" (func $init))
    (with "generate" (func $generate))))
  (export "wasmill:plugin/generator@0.1.0" (instance $exports)))
