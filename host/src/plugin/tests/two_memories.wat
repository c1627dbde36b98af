  ;; To stand at the end of another component: two in one, each with a memory of $PAGES pages, and a string that would go
  ;; from one to the other. What goes between them is a module that sees both.
  (component $callee
    (core module $m
      (memory (export "memory") $PAGES)
      (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
      (func (export "f") (param i32 i32)))
    (core instance $i (instantiate $m))
    (alias core export $i "memory" (core memory $memory))
    (alias core export $i "realloc" (core func $realloc))
    (alias core export $i "f" (core func $f))
    (func (export "f") (param "s" string) (canon lift (core func $f) (memory $memory) (realloc $realloc))))
  (component $caller
    (import "f" (func $f (param "s" string)))
    (core module $libc (memory (export "memory") $PAGES))
    (core instance $libc (instantiate $libc))
    (alias core export $libc "memory" (core memory $memory))
    (core func $g (canon lower (func $f) (memory $memory)))
    (core module $m
      (import "" "g" (func $g (param i32 i32)))
      (func (export "run") (call $g (i32.const 0) (i32.const 4))))
    (core instance $i (instantiate $m (with "" (instance (export "g" (func $g))))))
    (alias core export $i "run" (core func $run))
    (func (export "run") (canon lift (core func $run))))
  (instance $callee (instantiate $callee))
  (instance $caller (instantiate $caller (with "f" (func $callee "f"))))
  (export "run" (func $caller "run"))
