// The activations and their derivatives.

enum Activation { linear, relu, sigmoid, tanh_ };

// e^x for x <= 0, off by at most 4 units in the last place, in arithmetic that needs no call and
// so stays in vectors: 2^n e^r with |r| <= log(2) / 2, and the best polynomial of degree 5.
inline float exponential(float x) {
    x = x < -87 ? -87 : x;  // so that NaN stays NaN
    // 1.5 * 2^23 + 127: what is added to it is rounded to an integer, n, and its last 8 bits are
    // those of the exponent of 2^n.
    const float shift = 12583039, sum = x * 1.44269504f + shift, n = sum - shift;
    const float r = x - n * 0.69314718f, r2 = r * r;
    const float high = 0.0082976476f * r + 0.041915431f, middle = 0.16667575f * r + 0.49998894f,
                low = 0.99999969f * r + 1.00000007f;
    int bits;
    std::memcpy(&bits, &sum, 4);
    bits <<= 23;
    float power;
    std::memcpy(&power, &bits, 4);
    return ((high * r2 + middle) * r2 + low) * power;
}
inline double exponential(double x) { return std::exp(x); }

template <Activation f>
inline real activate(real z) {
    if (f == relu) return z < 0 ? real(0) : z;  // so that NaN stays NaN
    if (f == sigmoid) {
        const real e = exponential(-std::abs(z));
        return (z < 0 ? e : real(1)) / (1 + e);
    }
    if (f == tanh_) return std::tanh(z);
    return z;
}

// The derivative of the activation, from its z and its value.
template <Activation f>
inline real slope(real z, real value) {
    if (f == relu) return z > 0 ? real(1) : z <= 0 ? real(0) : z;
    if (f == sigmoid) return value * (1 - value);
    if (f == tanh_) return 1 - value * value;
    return 1;
}
