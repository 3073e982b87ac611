//! Hostile bytes by chance, for the tests: what libFuzzer makes is better, and takes hours.

/// A small generator of numbers (xorshift64*), the same for the same beginning.
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(high).unwrap_or(0) % end
    }

    /// What a command may print that was made to do harm: pieces of the formats, any bytes, and now and then a long line.
    pub fn output(&mut self) -> Vec<u8> {
        let mut output = Vec::new();
        for _ in 0..self.below(80) {
            match self.below(16) {
                0 => output.extend((0..self.below(20)).map(|_| u8::try_from(self.below(256)).unwrap_or(0))),
                1 => output.extend(std::iter::repeat_n(b"a9\xff\""[self.below(4)], self.below(300))),
                2 if self.below(50) == 0 => output.extend(vec![b'7'; 70_000]),
                _ => output.extend(PIECES[self.below(PIECES.len())]),
            }
        }
        output
    }
}

const PIECES: &[&[u8]] = &[
    b"a",
    b"b",
    b"h",
    b"a_sum",
    b"h_count",
    b"h_bucket",
    b"pod",
    b"exported_pod",
    b"__x",
    b"parachute_y",
    b" ",
    b" ",
    b"\n",
    b"\n",
    b"\n",
    b"\n# TYPE ",
    b"\n# HELP ",
    b"counter",
    b"histogram",
    b"summary",
    b"gauge",
    b"{",
    b"}",
    b"{",
    b"}",
    b"=",
    b"\"",
    b"\"",
    b",",
    b"\\",
    b"\\n",
    b"1",
    b"-2.5",
    b"NaN",
    b"-NaN",
    b"+Inf",
    b"1e999",
    b"0x1",
    b":",
    b"[",
    b"]",
    b"\0",
    b"\xc3\xa9",
    b"\xe2\x86\x92",
    b"\xff",
    b"\x1b[31m",
    b"\x1b]52;c;",
    b"\r",
    b"\t",
    b"null",
    b"true",
    b"\na{le=\"1\"} 1",
    b"\na_bucket{le=\"x\"} 1",
    b"\n# TYPE h histogram\nh_count{le=\"x\"} 1\n",
    b"\n# TYPE q summary\nq{quantile=\"-NaN\"} 1\nq_sum{quantile=\"x\"} 1\n",
    b"\na{pod=\"x\",exported_pod=\"y\"} 1\n",
    b"{\"name\":\"x\",\"v\":1}",
    b"{\"name\":\"\\u0000\\n\",\"v\":\"1e308\"}",
    b"[{\"v\":1},",
    b"TcpActiveOpens 4\n",
    b"PID COMMAND\n",
    b"\nMemTotal: 1 kB\n",
    b"TCP: inuse 3",
    b"/kubepods/",
    b"/docker/",
    b" - cgroup2 x rw\n",
    b"ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    b"{\"probe\":\"a\",\"target\":{\"pod\":\"p\"}}",
];
