"""The blog post "Batch Normalization: Warm-Up" in one file, to be read from top to bottom.

An autoencoder for 20 Newsgroups in plain Theano.  A document is 2,000 zeros and ones: which of the
2,000 most frequent words it contains.  One layer turns a document into its code, 128 numbers, and
a second layer turns the code into a probability for each word.  Run it in four ways:

    python experiments/warm_up.py                  # BN in the hidden layer
    python experiments/warm_up.py --no-bn          # no BN: f(x) = max(0, W*x + b)
    python experiments/warm_up.py --dropout .3     # issue 1: does BN replace dropout?
    python experiments/warm_up.py --top-bn         # issue 2: should the top layer have BN too?

The flags can be combined.  Every run ends with the numbers that you should see.
"""

import argparse

import ae_bn  # sets Theano's flags, so it is imported before Theano

# isort: split

import numpy as np
import theano
import theano.tensor as T
from sklearn.linear_model import RidgeClassifier
from theano.sandbox.rng_mrg import MRG_RandomStream

from ae_bn.config import load_config
from ae_bn.data import load_corpus

N_UNITS = 128
EPOCHS, BATCH_SIZE, LEARNING_RATE = 10, 100, 0.003
EPSILON = 1e-5
SEED = 1

# What you should see after the last epoch, with the constants above and scikit-learn's copy of
# 20 Newsgroups.  Rounding differs between machines, and moves the numbers by less than TOLERANCE.
EXPECTED = {
    # hidden BN, top BN, dropout: validation loss, validation accuracy
    (False, False, 0.0): (0, 0),
    (False, False, 0.3): (0, 0),
    (True, False, 0.0): (0, 0),
    (True, False, 0.3): (0, 0),
    (True, True, 0.0): (0, 0),
    (True, True, 0.3): (0, 0),
}
TOLERANCE = (0.5, 0.02)


# The post's three equations.  Documents are the rows of x, so W*x is written x W here.


def g(x, W):
    """g(x) -> W*x"""
    return T.dot(x, W)  # (n, n_in) times (n_in, n_out) is (n, n_out)


def h(g, mean, std):
    """h(x) -> (g(x) - mean(g(x))) / std(g(x))"""
    return (g - mean) / std  # (n, n_out); mean and std are (n_out,)


def f(h, a, b, activation):
    """f(x) -> maximum(0, a * h(x) + b), where activation is maximum(0, .)"""
    return activation(a * h + b)  # (n, n_out); a and b are (n_out,)


def ReLU(z):
    return T.maximum(0, z)


class Layer:
    """One layer: f(h(g(x))) with BN, f(g(x)) without."""

    def __init__(self, n_in, n_out, activation, bn, rng):
        self.activation, self.bn = activation, bn
        limit = np.sqrt(6 / (n_in + n_out))  # Glorot and Bengio (2010)
        self.W = shared(rng.uniform(-limit, limit, (n_in, n_out)))  # (n_in, n_out)
        self.a, self.b = shared(np.ones(n_out)), shared(np.zeros(n_out))  # (n_out,) each
        self.parameters = [self.W, self.a, self.b] if bn else [self.W, self.b]
        # Population statistics of g(x), (n_out,) each: they replace the minibatch's after training.
        self.mean, self.variance = shared(np.zeros(n_out)), shared(np.ones(n_out))

    def __call__(self, x, population):
        """Return the output, (n, n_out), for the input x, (n, n_in).

        With population=False the statistics are those of the minibatch x.  They are part of the
        graph, so gradients flow through them.
        """
        gx = g(x, self.W)
        if not self.bn:
            return f(gx, 1, self.b, self.activation)
        mean, variance = (self.mean, self.variance) if population else (gx.mean(0), gx.var(0))
        std = T.sqrt(variance + EPSILON)  # never 0, even if no document of the minibatch differs
        return f(h(gx, mean, std), self.a, self.b, self.activation)

    def population_updates(self, x):
        """Return the updates that make the statistics of x the population statistics."""
        gx = g(x, self.W)
        return [(self.mean, gx.mean(0)), (self.variance, gx.var(0))]


def shared(values):
    return theano.shared(np.asarray(values, theano.config.floatX))


def new_autoencoder(X, bn, top_bn, rng):
    """Return encoder and decoder for the training documents X, (n, n_words)."""
    n, n_words = X.shape
    encoder = Layer(n_words, N_UNITS, ReLU, bn, rng)
    decoder = Layer(N_UNITS, n_words, T.nnet.sigmoid, top_bn, rng)
    # Start from how frequent each word is: share = sigmoid(b).  With BN on top this is essential,
    # because BN makes the inputs of the sigmoid as wide for a rare word as for a common one.
    share = (X.sum(axis=0) + 0.5) / (n + 1)
    decoder.b.set_value(np.log(share / (1 - share)).astype(theano.config.floatX))
    return encoder, decoder


def cross_entropy(output, x):
    """Return the loss in nats: the sum over words, the mean over documents."""
    return T.nnet.binary_crossentropy(output, x).sum(axis=1).mean()


def adam(parameters, gradients, beta1=0.9, beta2=0.999):
    """Return the updates of one step of Adam (Kingma and Ba 2015, algorithm 1)."""
    t = shared(0)
    updates = [(t, t + 1)]
    for p, gradient in zip(parameters, gradients):
        m, v = shared(np.zeros_like(p.get_value())), shared(np.zeros_like(p.get_value()))
        m_new = beta1 * m + (1 - beta1) * gradient
        v_new = beta2 * v + (1 - beta2) * gradient**2
        m_hat, v_hat = m_new / (1 - beta1 ** (t + 1)), v_new / (1 - beta2 ** (t + 1))
        p_new = p - LEARNING_RATE * m_hat / (T.sqrt(v_hat) + 1e-8)
        updates += [(m, m_new), (v, v_new), (p, p_new)]
    return updates


def compile_functions(encoder, decoder, dropout):
    """Build the graph twice over the same W, a and b; return four functions of documents."""
    x = T.matrix("x")  # (n, n_words)

    # For training: the statistics of the minibatch, and dropout, which masks words of the input.
    mask = T.ge(MRG_RandomStream(SEED).uniform(x.shape), dropout) / (1 - dropout)
    output = decoder(encoder(x * mask, population=False), population=False)
    loss = cross_entropy(output, x)
    parameters = encoder.parameters + decoder.parameters
    train = theano.function([x], loss, updates=adam(parameters, T.grad(loss, parameters)))

    # For everything else: the statistics of the population, and no dropout.
    code = encoder(x, population=True)
    encode = theano.function([x], code)
    evaluate = theano.function([x], cross_entropy(decoder(code, population=True), x))

    # The population is all training documents, taken as one large batch.
    code = encoder(x, population=False)
    updates = encoder.population_updates(x) + decoder.population_updates(code)
    update_population = theano.function([x], updates=updates)
    return train, update_population, encode, evaluate


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--no-bn", dest="bn", action="store_false", help="plain hidden layer")
    parser.add_argument("--top-bn", action="store_true", help="BN in the output layer too")
    parser.add_argument("--dropout", type=float, default=0.0, help="share of words to mask")
    options = parser.parse_args(arguments)
    if not 0 <= options.dropout < 1:
        parser.error(f"--dropout {options.dropout}: give a number from 0 to less than 1")
    try:
        ae_bn.backend.require_compiler()
        corpus = load_corpus(load_config().data)
    except ae_bn.backend.UserError as error:
        parser.error(str(error))

    rng = np.random.default_rng(SEED)
    documents = rng.permutation(corpus.train.shape[0])
    n_valid = len(documents) // 10
    X, labels = corpus.train.toarray()[documents], corpus.train_labels[documents]
    X_valid, X, labels_valid, labels = X[:n_valid], X[n_valid:], labels[:n_valid], labels[n_valid:]

    encoder, decoder = new_autoencoder(X, options.bn, options.top_bn, rng)
    print("compiling; the first time this takes longer", flush=True)
    functions = compile_functions(encoder, decoder, options.dropout)
    train, update_population, encode, evaluate = functions

    print("epoch  training loss  validation loss  validation accuracy")
    for epoch in range(1, EPOCHS + 1):
        # A remainder that does not fill a minibatch is left out.
        minibatches = rng.permutation(len(X))[: len(X) // BATCH_SIZE * BATCH_SIZE]
        losses = [train(X[rows]) for rows in minibatches.reshape(-1, BATCH_SIZE)]
        update_population(X)
        loss = float(evaluate(X_valid))
        # How much of the newsgroup a linear classifier reads off the codes.
        probe = RidgeClassifier().fit(encode(X), labels)
        accuracy = probe.score(encode(X_valid), labels_valid)
        print(f"{epoch:5} {np.mean(losses):14.1f} {loss:16.1f} {accuracy:20.3f}", flush=True)

    print("\nhidden BN  top BN  dropout  you should see     you see")
    this = (options.bn, options.top_bn, options.dropout)
    for flags in dict.fromkeys([*EXPECTED, this]):
        print("{!s:9}  {!s:6}  {:7}".format(*flags), end="")
        print("  {:10.1f}  {:.3f}".format(*EXPECTED[flags]) if flags in EXPECTED else 19 * " ", end="")
        print(f"  {loss:.1f}  {accuracy:.3f}" if flags == this else "")


if __name__ == "__main__":
    main()
