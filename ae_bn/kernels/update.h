// The optimisers, for a single number: p is the parameter, d its gradient, and the rest the state.
//
//     sgd:       p <- p - rate d
//     nesterov:  v <- momentum v - rate d
//                p <- p + momentum v - rate d
//     adam:      m <- beta1 m + (1 - beta1) d
//                v <- beta2 v + (1 - beta2) d^2
//                p <- p - rate m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + epsilon)
//
// STATE(EACH) expands EACH for every name of the state.  A kernel is
//
//     static void kernel(PyArrayObject* rate_, PyArrayObject* t_, ..., PARAMETER_AND_STATE) {
//         PREPARE
//         ...
//         STEP(i, d)  // number i, whose gradient is d
//     }

#ifdef RULE_sgd
#define STATE(EACH)
#endif
#ifdef RULE_nesterov
#define STATE(EACH) EACH(v)
#endif
#ifdef RULE_adam
#define STATE(EACH) EACH(m) EACH(v)
#endif

#define REFERENCE(name) real &name,
static inline void step(real& p, STATE(REFERENCE) real d, real rate, real correction1,
                        real correction2) {
    HYPERPARAMETERS
    using std::sqrt;
#ifdef RULE_sgd
    p = p - rate * d;
#endif
#ifdef RULE_nesterov
    v = momentum * v - rate * d;
    p = p + momentum * v - rate * d;
#endif
#ifdef RULE_adam
    m = beta1 * m + (1 - beta1) * d;
    v = beta2 * v + (1 - beta2) * (d * d);
    p = p - rate * correction1 * m / (sqrt(v) * correction2 + epsilon);
#endif
}

// The array to write to: the input itself, or the output's storage.
static real* target(PyArrayObject* in, PyArrayObject** out) {
    if (inplace) return overwrite<real>(in, out);
    return output<real>(
        out, std::vector<npy_intp>(PyArray_DIMS(in), PyArray_DIMS(in) + PyArray_NDIM(in)));
}

#define LOAD(name) real name##_at = name##_in.data[at];
#define PASS(name) name##_at,
#define STORE(name) name[at] = name##_at;
#define STEP(where, gradient)                                             \
    {                                                                     \
        const npy_intp at = where;                                        \
        LOAD(p)                                                           \
        STATE(LOAD)                                                       \
        step(p_at, STATE(PASS) gradient, rate, correction1, correction2); \
        STORE(p)                                                          \
        STATE(STORE)                                                      \
    }

#define INPUT(name) , PyArrayObject* name##_
#define OUTPUT(name) , PyArrayObject** name##_out
#define PARAMETER_AND_STATE        \
    PyArrayObject* p_ STATE(INPUT) \
    , PyArrayObject** p_out STATE(OUTPUT)

#define OPEN(name) Input<real> name##_in(name##_);
#define CHECK(name) require(PyArray_SAMESHAPE(p_, name##_), "p and state must be of one shape");
#define TARGET(name) real* name = target(name##_, name##_out);
#define PREPARE                                                     \
    const real rate = *(real*)PyArray_DATA(rate_);                  \
    const double t = *(real*)PyArray_DATA(t_);                      \
    const real correction1 = 1 / (1 - std::pow(beta1, t)),          \
               correction2 = 1 / std::sqrt(1 - std::pow(beta2, t)); \
    OPEN(p)                                                         \
    STATE(OPEN)                                                     \
    STATE(CHECK)                                                    \
    TARGET(p)                                                       \
    STATE(TARGET)
