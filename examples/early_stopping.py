"""Stop bad trials while they train: a callback does successive halving for a model that learns in steps.

Each trial trains a linear classifier and asks at every rung whether to go on. Only the best third of the trials that
got that far may; the others return at once and free their worker for the next trial.
"""

import random
import warnings
from collections import Counter, defaultdict

from sklearn.datasets import load_digits
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import train_test_split
from threadpoolctl import threadpool_limits

from amltk.scheduling import Comm, Scheduler

WORKERS = 2
TRIALS = 40
RUNGS = (1, 3, 9)  # epochs after which a trial has to justify itself
EPOCHS = 27
KEEP = 3  # one in this many goes on


def train(config, *, comm):
    """Train one configuration in a worker process for as long as it is worth it."""
    warnings.simplefilter("ignore")  # some configurations diverge
    X, y = load_digits(return_X_y=True)
    X = Nystroem(gamma=config["gamma"], n_components=300, random_state=0).fit_transform(X)
    X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0, stratify=y)
    model = SGDClassifier(alpha=config["alpha"], learning_rate="constant", eta0=config["rate"], random_state=0)

    epoch = 0
    with comm.open():
        for epoch in range(1, EPOCHS + 1):
            model.partial_fit(X_train, y_train, classes=range(10))
            if epoch in RUNGS and not comm.request((epoch, model.score(X_test, y_test))):
                break
    return epoch, model.score(X_test, y_test)


def sample(rng):
    """Draw a configuration; most of them are bad."""
    return {
        "gamma": 10 ** rng.uniform(-5, -1),
        "alpha": 10 ** rng.uniform(-6, 0),
        "rate": 10 ** rng.uniform(-4, 2),
    }


rng = random.Random(3)
configs = [sample(rng) for _ in range(TRIALS)]
queue = iter(enumerate(configs))
numbers = {}  # trial number of each future
scores = defaultdict(list)  # of all trials that reached a rung
outcomes = {}  # epochs and accuracy of each trial

scheduler = Scheduler.with_processes(WORKERS, initializer=threadpool_limits, initargs=(1,))
training = scheduler.task(train, plugins=Comm.Plugin())


@training.on("comm-request")
def judge(msg: Comm.Msg):
    epoch, score = msg.data
    scores[epoch].append(score)
    best = sorted(scores[epoch], reverse=True)[: max(1, len(scores[epoch]) // KEEP)]
    msg.respond(score >= best[-1])


@training.on_result
def note(future, outcome):
    epochs, score = outcome
    number = numbers.pop(future)
    outcomes[number] = outcome
    how = "trained to the end" if epochs == EPOCHS else f"stopped after {epochs:2} of {EPOCHS} epochs"
    print(f"trial {number:2}: {how}, accuracy {score:.3f}")


@scheduler.on_start(repeat=WORKERS)
@training.on_result  # after `note`: callbacks run in the order of registration
def launch(*_):
    number, config = next(queue, (None, None))
    if config is not None:
        numbers[training.submit(config)] = number


def show_results():
    lengths = Counter(epochs for epochs, _ in outcomes.values())
    spent = sum(epochs for epochs, _ in outcomes.values())
    best = max(outcomes, key=lambda number: outcomes[number][1])
    print("\ntrials that ended after")
    for epochs in (*RUNGS, EPOCHS):
        print(f"  {epochs:2} epochs: {lengths[epochs]:2} {'#' * lengths[epochs]}")
    print(f"{len(outcomes) - lengths[EPOCHS]} of {len(outcomes)} trials were stopped early")
    print(
        f"{spent} epochs were trained, {spent / (TRIALS * EPOCHS):.0%} of what all trials to the end would have taken"
    )
    print(f"the best is trial {best}: accuracy {outcomes[best][1]:.3f} with {configs[best]}")


if __name__ == "__main__":
    scheduler.run()
    show_results()
