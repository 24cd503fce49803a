;; A classifier of the digits: 64 features, 32 hidden units with ReLU, 10 classes, cross entropy.
;;
;; Parameters in memory, as f32, one after the other: w1 [32, 64], b1 [32], w2 [10, 32], b2 [10].
(module
  (import "superduper" "random" (func $random (result i64)))
  (memory (export "memory") 2)
  (@custom "superduper" "{\"abi\": 1, \"name\": \"Digits\", \"model\": {\"features\": 64, \"outputs\": 10, \"labels\": \"classes\", \"parameters\": [{\"name\": \"w1\", \"shape\": [32, 64]}, {\"name\": \"b1\", \"shape\": [32]}, {\"name\": \"w2\", \"shape\": [10, 32]}, {\"name\": \"b2\", \"shape\": [10]}], \"hyperparameters\": {\"scale\": {\"type\": \"f64\", \"default\": 1.0}}}}")

  ;; Offsets in bytes. Hidden units, logits and their gradients stand below $heap.
  (global $b1 i32 (i32.const 8192))   ;; 32 * 64 * 4
  (global $w2 i32 (i32.const 8320))   ;; b1 + 32 * 4
  (global $b2 i32 (i32.const 9600))   ;; w2 + 10 * 32 * 4
  (global $size i32 (i32.const 9640)) ;; b2 + 10 * 4
  (global $hidden i32 (i32.const 1024))
  (global $logits i32 (i32.const 2048))
  (global $heap (mut i32) (i32.const 65536))

  (func (export "alloc") (param $bytes i32) (result i32)
    (local $at i32) (local $end i32)
    (local.set $at (global.get $heap))
    (local.set $end (i32.and (i32.add (i32.add (local.get $at) (local.get $bytes)) (i32.const 15)) (i32.const -16)))
    (if (i32.gt_u (local.get $end) (i32.mul (memory.size) (i32.const 65536)))
      (then (drop (memory.grow (i32.add (i32.div_u (i32.sub (local.get $end) (i32.mul (memory.size) (i32.const 65536))) (i32.const 65536)) (i32.const 1))))))
    (global.set $heap (local.get $end))
    (local.get $at))

  ;; A random number from -1 to 1.
  (func $uniform (result f32)
    (f32.sub
      (f32.div (f32.convert_i32_u (i32.wrap_i64 (i64.shr_u (call $random) (i64.const 40)))) (f32.const 8388608))
      (f32.const 1)))

  (func $fill (param $at i32) (param $count i32) (param $scale f32)
    (loop $next
      (f32.store (local.get $at) (f32.mul (call $uniform) (local.get $scale)))
      (local.set $at (i32.add (local.get $at) (i32.const 4)))
      (local.set $count (i32.sub (local.get $count) (i32.const 1)))
      (br_if $next (local.get $count))))

  ;; Glorot and Bengio (2010): uniform up to sqrt(6 / (inputs + outputs)); biases are 0.
  (func (export "initial") (param $seed i64) (param $p i32)
    (memory.fill (local.get $p) (i32.const 0) (global.get $size))
    (call $fill (local.get $p) (i32.const 2048) (f32.sqrt (f32.div (f32.const 6) (f32.const 96))))
    (call $fill (i32.add (local.get $p) (global.get $w2)) (i32.const 320) (f32.sqrt (f32.div (f32.const 6) (f32.const 42)))))

  ;; The exponential of a number that is not positive: 2^(x log2 e), with a polynomial for the fraction.
  (func $exp (param $x f32) (result f32)
    (local $whole f32) (local $s f32)
    (if (f32.lt (local.get $x) (f32.const -87)) (then (return (f32.const 0))))
    (local.set $x (f32.mul (local.get $x) (f32.const 1.442695)))
    (local.set $whole (f32.floor (local.get $x)))
    (local.set $x (f32.mul (f32.sub (local.get $x) (local.get $whole)) (f32.const 0.6931472)))
    ;; The Taylor series of e^x below ln 2, to the power of 6.
    (local.set $s (f32.const 0.0013888889))
    (local.set $s (f32.add (f32.mul (local.get $s) (local.get $x)) (f32.const 0.008333334)))
    (local.set $s (f32.add (f32.mul (local.get $s) (local.get $x)) (f32.const 0.041666667)))
    (local.set $s (f32.add (f32.mul (local.get $s) (local.get $x)) (f32.const 0.16666667)))
    (local.set $s (f32.add (f32.mul (local.get $s) (local.get $x)) (f32.const 0.5)))
    (local.set $s (f32.add (f32.mul (local.get $s) (local.get $x)) (f32.const 1)))
    (local.set $s (f32.add (f32.mul (local.get $s) (local.get $x)) (f32.const 1)))
    (f32.mul (local.get $s)
      (f32.reinterpret_i32 (i32.shl (i32.add (i32.trunc_f32_s (local.get $whole)) (i32.const 127)) (i32.const 23)))))

  ;; The logarithm of a number from 1 to 10: halved until it is below 2, then 2 atanh((x - 1) / (x + 1)).
  (func $ln (param $x f32) (result f32)
    (local $twos f32) (local $t f32) (local $tt f32) (local $s f32)
    (block $done
      (loop $halve
        (br_if $done (f32.lt (local.get $x) (f32.const 1.5)))
        (local.set $x (f32.mul (local.get $x) (f32.const 0.5)))
        (local.set $twos (f32.add (local.get $twos) (f32.const 0.6931472)))
        (br $halve)))
    (local.set $t (f32.div (f32.sub (local.get $x) (f32.const 1)) (f32.add (local.get $x) (f32.const 1))))
    (local.set $tt (f32.mul (local.get $t) (local.get $t)))
    (local.set $s (f32.const 0.14285715))
    (local.set $s (f32.add (f32.mul (local.get $s) (local.get $tt)) (f32.const 0.2)))
    (local.set $s (f32.add (f32.mul (local.get $s) (local.get $tt)) (f32.const 0.33333334)))
    (local.set $s (f32.add (f32.mul (local.get $s) (local.get $tt)) (f32.const 1)))
    (f32.add (local.get $twos) (f32.mul (f32.mul (f32.const 2) (local.get $t)) (local.get $s))))

  ;; The product of two rows of numbers; $bytes is their length, a multiple of 16.
  (func $dot (param $a i32) (param $b i32) (param $bytes i32) (result f32)
    (local $end i32) (local $sum v128)
    (local.set $end (i32.add (local.get $a) (local.get $bytes)))
    (loop $next
      (local.set $sum (f32x4.add (local.get $sum) (f32x4.mul (v128.load (local.get $a)) (v128.load (local.get $b)))))
      (local.set $a (i32.add (local.get $a) (i32.const 16)))
      (local.set $b (i32.add (local.get $b) (i32.const 16)))
      (br_if $next (i32.lt_u (local.get $a) (local.get $end))))
    (f32.add
      (f32.add (f32x4.extract_lane 0 (local.get $sum)) (f32x4.extract_lane 1 (local.get $sum)))
      (f32.add (f32x4.extract_lane 2 (local.get $sum)) (f32x4.extract_lane 3 (local.get $sum)))))

  ;; $to += $from * $factor, for rows of numbers; $bytes is a multiple of 16.
  (func $add (param $to i32) (param $from i32) (param $factor f32) (param $bytes i32)
    (local $end i32)
    (local.set $end (i32.add (local.get $to) (local.get $bytes)))
    (loop $next
      (v128.store (local.get $to) (f32x4.add (v128.load (local.get $to)) (f32x4.mul (v128.load (local.get $from)) (f32x4.splat (local.get $factor)))))
      (local.set $to (i32.add (local.get $to) (i32.const 16)))
      (local.set $from (i32.add (local.get $from) (i32.const 16)))
      (br_if $next (i32.lt_u (local.get $to) (local.get $end)))))

  ;; Hidden units and outputs of one row.
  (func $row (param $p i32) (param $x i32) (param $out i32)
    (local $i i32)
    (loop $units
      (f32.store (i32.add (global.get $hidden) (i32.shl (local.get $i) (i32.const 2)))
        (f32.max (f32.const 0) (f32.add
          (f32.load (i32.add (i32.add (local.get $p) (global.get $b1)) (i32.shl (local.get $i) (i32.const 2))))
          (call $dot (i32.add (local.get $p) (i32.shl (local.get $i) (i32.const 8))) (local.get $x) (i32.const 256)))))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $units (i32.lt_u (local.get $i) (i32.const 32))))
    (local.set $i (i32.const 0))
    (loop $classes
      (f32.store (i32.add (local.get $out) (i32.shl (local.get $i) (i32.const 2)))
        (f32.add
          (f32.load (i32.add (i32.add (local.get $p) (global.get $b2)) (i32.shl (local.get $i) (i32.const 2))))
          (call $dot (i32.add (i32.add (local.get $p) (global.get $w2)) (i32.shl (local.get $i) (i32.const 7))) (global.get $hidden) (i32.const 128))))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $classes (i32.lt_u (local.get $i) (i32.const 10)))))

  (func (export "forward") (param $p i32) (param $x i32) (param $rows i32) (param $out i32)
    (block $done
      (loop $next
        (br_if $done (i32.eqz (local.get $rows)))
        (call $row (local.get $p) (local.get $x) (local.get $out))
        (local.set $x (i32.add (local.get $x) (i32.const 256)))
        (local.set $out (i32.add (local.get $out) (i32.const 40)))
        (local.set $rows (i32.sub (local.get $rows) (i32.const 1)))
        (br $next))))

  ;; The loss of one row; its logits become the gradients of the loss.
  (func $loss (param $label i32) (result f32)
    (local $i i32) (local $largest f32) (local $sum f32) (local $at i32) (local $of_label f32)
    (local.set $largest (f32.load (global.get $logits)))
    (loop $find
      (local.set $largest (f32.max (local.get $largest) (f32.load (i32.add (global.get $logits) (i32.shl (local.get $i) (i32.const 2))))))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $find (i32.lt_u (local.get $i) (i32.const 10))))
    (local.set $of_label (f32.sub (f32.load (i32.add (global.get $logits) (i32.shl (local.get $label) (i32.const 2)))) (local.get $largest)))
    (local.set $i (i32.const 0))
    (loop $sums
      (local.set $at (i32.add (global.get $logits) (i32.shl (local.get $i) (i32.const 2))))
      (f32.store (local.get $at) (call $exp (f32.sub (f32.load (local.get $at)) (local.get $largest))))
      (local.set $sum (f32.add (local.get $sum) (f32.load (local.get $at))))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $sums (i32.lt_u (local.get $i) (i32.const 10))))
    (local.set $i (i32.const 0))
    (loop $scale
      (local.set $at (i32.add (global.get $logits) (i32.shl (local.get $i) (i32.const 2))))
      (f32.store (local.get $at) (f32.sub (f32.div (f32.load (local.get $at)) (local.get $sum)) (f32.convert_i32_u (i32.eq (local.get $i) (local.get $label)))))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $scale (i32.lt_u (local.get $i) (i32.const 10))))
    (f32.sub (call $ln (local.get $sum)) (local.get $of_label)))

  (func (export "step") (param $p i32) (param $x i32) (param $y i32) (param $rows i32) (param $g i32) (result f32)
    (local $left i32) (local $loss f32) (local $share f32) (local $k i32) (local $j i32) (local $d f32) (local $dh f32) (local $w2 i32)
    (memory.fill (local.get $g) (i32.const 0) (global.get $size))
    (local.set $share (f32.div (f32.const 1) (f32.convert_i32_u (local.get $rows))))
    (local.set $left (local.get $rows))
    (local.set $w2 (i32.add (local.get $p) (global.get $w2)))
    (block $done
      (loop $next
        (br_if $done (i32.eqz (local.get $left)))
        (call $row (local.get $p) (local.get $x) (global.get $logits))
        (local.set $loss (f32.add (local.get $loss) (f32.mul (local.get $share) (call $loss (i32.load (local.get $y))))))
        ;; Gradients of the second layer.
        (local.set $k (i32.const 0))
        (loop $classes
          (local.set $d (f32.mul (local.get $share) (f32.load (i32.add (global.get $logits) (i32.shl (local.get $k) (i32.const 2))))))
          (f32.store (i32.add (i32.add (local.get $g) (global.get $b2)) (i32.shl (local.get $k) (i32.const 2)))
            (f32.add (local.get $d) (f32.load (i32.add (i32.add (local.get $g) (global.get $b2)) (i32.shl (local.get $k) (i32.const 2))))))
          (call $add (i32.add (i32.add (local.get $g) (global.get $w2)) (i32.shl (local.get $k) (i32.const 7))) (global.get $hidden) (local.get $d) (i32.const 128))
          (local.set $k (i32.add (local.get $k) (i32.const 1)))
          (br_if $classes (i32.lt_u (local.get $k) (i32.const 10))))
        ;; Gradients of the first layer, for the units that are active.
        (local.set $j (i32.const 0))
        (loop $units
          (if (f32.gt (f32.load (i32.add (global.get $hidden) (i32.shl (local.get $j) (i32.const 2)))) (f32.const 0))
            (then
              (local.set $dh (f32.const 0))
              (local.set $k (i32.const 0))
              (loop $back
                (local.set $dh (f32.add (local.get $dh) (f32.mul
                  (f32.load (i32.add (global.get $logits) (i32.shl (local.get $k) (i32.const 2))))
                  (f32.load (i32.add (i32.add (local.get $w2) (i32.shl (local.get $k) (i32.const 7))) (i32.shl (local.get $j) (i32.const 2)))))))
                (local.set $k (i32.add (local.get $k) (i32.const 1)))
                (br_if $back (i32.lt_u (local.get $k) (i32.const 10))))
              (local.set $dh (f32.mul (local.get $dh) (local.get $share)))
              (f32.store (i32.add (i32.add (local.get $g) (global.get $b1)) (i32.shl (local.get $j) (i32.const 2)))
                (f32.add (local.get $dh) (f32.load (i32.add (i32.add (local.get $g) (global.get $b1)) (i32.shl (local.get $j) (i32.const 2))))))
              (call $add (i32.add (local.get $g) (i32.shl (local.get $j) (i32.const 8))) (local.get $x) (local.get $dh) (i32.const 256))))
          (local.set $j (i32.add (local.get $j) (i32.const 1)))
          (br_if $units (i32.lt_u (local.get $j) (i32.const 32))))
        (local.set $x (i32.add (local.get $x) (i32.const 256)))
        (local.set $y (i32.add (local.get $y) (i32.const 4)))
        (local.set $left (i32.sub (local.get $left) (i32.const 1)))
        (br $next)))
    (local.get $loss)))
