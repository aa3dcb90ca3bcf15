"""The blog post "Batch Normalization: Warm-Up" in one file, to be read from top to bottom.

An autoencoder for 20 Newsgroups in plain Theano.  A document is 2,000 zeros and ones: which of the
2,000 most frequent words it contains.  One layer turns a document into its code, 128 numbers, and
a second layer turns the code into a probability for each word.  Run it in four ways:

    make warm_up                           # BN in the hidden layer
    make warm_up FLAGS="--no-bn"           # no BN: f(x) = max(0, W*x + b)
    make warm_up FLAGS="--dropout .3"      # issue 1: does BN replace dropout?
    make warm_up FLAGS="--top-bn"          # issue 2: should the top layer have BN too?

The flags can be combined.  A run takes 40 seconds on one core, and a minute more the first time.
It ends with the numbers that you should see.
"""

import argparse

import ae_bn  # sets Theano's flags, so it is imported before Theano

# isort: split

import numpy as np
import theano
import theano.tensor as T
from sklearn.linear_model import RidgeClassifier
from theano.sandbox.rng_mrg import MRG_RandomStream
from warm_up_numbers import compare

from ae_bn.commands.command_line import run_program
from ae_bn.config import load_config
from ae_bn.data.corpus import load_corpus

N_UNITS = 128  # numbers in a code
EPOCHS = 10
BATCH_SIZE = 100  # documents
LEARNING_RATE = 0.003
EPSILON = 1e-5  # added to the variance inside the root, so that std is never 0
SEED = 1  # of the split into training and validation, the first W, the order and the dropout


# The post's three equations.  Documents are the rows of x, so W*x is written x W here.
def g(x, W):
    """g(x) -> W*x"""
    return T.dot(x, W)  # (n, n_in) times (n_in, n_out) is (n, n_out)


def h(g, mean, std):
    """h(x) -> (g(x) - mean(g(x))) / std(g(x))"""
    return (g - mean) / std  # (n, n_out); mean and std are (n_out,)


def f(h, a, b, activation):
    """f(x) -> maximum(0, a * h(x) + b), in the top layer with the sigmoid for maximum(0, .)"""
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
        # The population's statistics of g(x), (n_out,) each, for use outside training.
        self.mean, self.variance = shared(np.zeros(n_out)), shared(np.ones(n_out))

    def __call__(self, x, population):
        """Return the output, (n, n_out), for the input x, (n, n_in)."""
        gx = g(x, self.W)
        if not self.bn:
            return f(gx, 1, self.b, self.activation)  # as with h(x) = g(x) and a = 1
        # The minibatch's own statistics are part of the graph, so gradients flow through them.
        mean, variance = (self.mean, self.variance) if population else (gx.mean(0), gx.var(0))
        std = T.sqrt(variance + EPSILON)
        return f(h(gx, mean, std), self.a, self.b, self.activation)

    def population_updates(self, x):
        """Return the updates that make the statistics of x the population statistics."""
        gx = g(x, self.W)
        return [(self.mean, gx.mean(0)), (self.variance, gx.var(0))]


def shared(values):
    return theano.shared(np.asarray(values, theano.config.floatX))


def new_autoencoder(X, bn, top_bn, rng):
    """Return encoder and decoder for the training documents X, (n, n_words)."""
    encoder = Layer(X.shape[1], N_UNITS, ReLU, bn, rng)
    decoder = Layer(N_UNITS, X.shape[1], T.nnet.sigmoid, top_bn, rng)
    # At first, sigmoid(b) is the share of documents that contain the word.  From b = 0, steps of
    # about LEARNING_RATE would not get to a rare word's -5 within EPOCHS.
    share = (X.sum(axis=0) + 0.5) / (len(X) + 1)  # never 0 or 1
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

    # In between: all training documents, as one large batch, give the population's statistics.
    updates = encoder.population_updates(x)
    updates += decoder.population_updates(encoder(x, population=False))
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
    ae_bn.theano_setup.require_compiler()
    corpus = load_corpus(load_config().data)
    rng = np.random.default_rng(SEED)
    n = corpus.train.shape[0]
    valid, rest = np.split(rng.permutation(n), [n // 10])  # numbers of documents
    X, labels = corpus.train[rest].toarray(), corpus.train_labels[rest]
    X_valid, labels_valid = corpus.train[valid].toarray(), corpus.train_labels[valid]

    layers = new_autoencoder(X, options.bn, options.top_bn, rng)
    print("compiling: a minute the first time, a few seconds later on", flush=True)
    train, update_population, encode, evaluate = compile_functions(*layers, options.dropout)
    print("epoch  training loss  validation loss  validation accuracy")
    for epoch in range(1, EPOCHS + 1):
        # A new order every epoch; the few documents that fill no minibatch are left out.
        order = rng.permutation(len(X))[: len(X) // BATCH_SIZE * BATCH_SIZE]
        losses = [train(X[rows]) for rows in order.reshape(-1, BATCH_SIZE)]
        update_population(X)
        loss = float(evaluate(X_valid))
        # How good are the codes?  A linear classifier predicts the newsgroup from them.
        probe = RidgeClassifier().fit(encode(X), labels)
        accuracy = probe.score(encode(X_valid), labels_valid)
        print(f"{epoch:5} {np.mean(losses):14.1f} {loss:16.1f} {accuracy:20.3f}", flush=True)

    compare(corpus.source, options, loss, accuracy)


if __name__ == "__main__":
    run_program(main, "a run that ends early leaves nothing behind")
