"""The parts of a training step's graph that concern all workers: shares of a batch, joint sums.

Whatever a step computes from the batch (gradients, losses, descriptors for the centers' rule, batch
norm's statistics) is summed or gathered over the workers before any variable changes. Then all make
the same change.

Dimensions: N workers, B joint batch, D descriptor size.
"""

import model
from runtime.tensorflow import tf

BUFFER_VALUES = 4 * 2 ** 20  # float32 values per collective call: 16 MB


def share_of(count, index, num_workers):
    """(start, end) of worker `index` in a batch of `count`: contiguous; sizes differ by at most 1.

    With fewer images than workers, the last shares are empty.
    """
    size, rest = divmod(count, num_workers)
    start = index * size + min(index, rest)
    return start, start + size + (index < rest)


class Collectives:
    """Collective operations of one worker. Each has a number that is the same on all workers.

    Args:
        index: this worker.
        count: N.
    """

    def __init__(self, index, count):
        self.index, self.count = index, count
        self.device = f"/job:worker/task:{index}"
        self._last_key = 0

    def sum(self, values):
        """Sum over the workers of a float32 [n]. Its gradient is summed over them as well."""
        keys = self._new_key(), self._new_key()

        @tf.custom_gradient
        def joint(tensor):
            return self.reduce(tensor, keys[0]), lambda gradient: self.reduce(gradient, keys[1])
        return joint(values)

    def sum_all(self, tensors):
        """Sums over the workers of float32 tensors of known shapes, in few collective calls."""
        buffers, space = [], 0
        for tensor in tensors:
            size = tensor.shape.num_elements()
            if size > space:
                buffers.append([])
                space = max(BUFFER_VALUES, size)
            buffers[-1].append(tensor)
            space -= size
        sums = []
        for buffer in buffers:
            flat = self.sum(tf.concat([tf.reshape(tensor, [-1]) for tensor in buffer], axis=0))
            parts = tf.split(flat, [tensor.shape.num_elements() for tensor in buffer])
            sums += [tf.reshape(part, tensor.shape) for part, tensor in zip(parts, buffer)]
        return sums

    def gather(self, rows):
        """The rows of all workers, in their order: [n, ...] -> [N * n, ...].

        In TensorFlow 1.14, a graph that gathers but does not reduce never ends.
        """
        with tf.device(self.device + "/device:CPU:0"):
            return tf.raw_ops.CollectiveGather(
                input=rows, group_size=self.count, group_key=1, instance_key=self._new_key(),
                shape=[self.count * int(rows.shape[0])] + rows.shape.as_list()[1:])

    def reduce(self, values, key=None):
        """Sum over the workers of a numeric [...]; without a gradient."""
        # On the CPU: what goes to another worker passes through it anyway.
        with tf.device(self.device + "/device:CPU:0"):
            return tf.raw_ops.CollectiveReduce(
                input=values, group_size=self.count, group_key=1,
                instance_key=key or self._new_key(),
                merge_op="Add", final_op="Id", subdiv_offsets=[0])

    def _new_key(self):
        # All workers build the same graphs in the same order.
        self._last_key += 1
        return self._last_key


class OneDevice:
    """A single process, with the interface of JointStep: everything is joint already."""

    batch_norm = model.BatchNorm

    @staticmethod
    def shares(losses, accuracy, _summed_terms):
        """The same losses and accuracy."""
        return losses, accuracy

    @staticmethod
    def together(network, labels, losses, accuracy, gradients):
        """See JointStep."""
        return (network.descriptor, labels, losses, accuracy, gradients,
                network.update_moving_statistics)


class JointStep:
    """What training.graph.build_step_graph needs where several workers share each batch.

    Create it in the graph of the step. A worker whose share is empty computes on an image that does
    not count.

    Args:
        collectives: Collectives.
        config: a complete Config.

    Attributes:
        collectives: see above.
        joint_count: placeholder, float32: B.
        portion: float32: this worker's share of the batch; all shares add up to 1.
        present: float32: 0 where the share is empty, else 1.
        stop: placeholder, float32 [2]: whether this worker has received SIGINT, SIGTERM.
        stops: float32 [2]: how many workers have; fetched with the step.
        begun: counts the steps that have begun to change variables; not in checkpoints.
    """

    def __init__(self, collectives, config):
        self.collectives, self._config = collectives, config
        self._own_count = tf.placeholder(tf.float32, [], "own_count")
        self.joint_count = tf.placeholder(tf.float32, [], "joint_count")
        self.portion = self._own_count / self.joint_count
        self.present = tf.minimum(self._own_count, 1.0)
        self.stop = tf.placeholder(tf.float32, [2], "stop")
        self.stops = self._batch_norm = None
        self.begun = tf.get_variable(
            "begun_steps", [], tf.float32, tf.zeros_initializer(), trainable=False,
            use_resource=True, collections=[tf.GraphKeys.LOCAL_VARIABLES])

    def feed(self, graph, images, labels, stop):
        """Feeds of a training.graph.StepGraph: this worker's share of a joint batch.

        Args:
            graph: the StepGraph.
            images, labels: numpy arrays, the joint batch.
            stop: two numbers, see the attribute.
        """
        start, end = share_of(len(labels), self.collectives.index, self.collectives.count)
        own = slice(start, end) if end > start else slice(0, 1)
        return {graph.images: images[own], graph.labels: labels[own], self.stop: stop,
                self._own_count: end - start, self.joint_count: len(labels)}

    def batch_norm(self, training):
        """The replacement of model.BatchNorm in the training pass."""
        kind = SynchronousBatchNorm if self._config.sync_batch_norm else LocalBatchNorm
        self._batch_norm = kind(self, training)
        return self._batch_norm

    def shares(self, losses, accuracy, summed_terms):
        """This worker's parts of the joint batch's losses and accuracy, which are sums of parts.

        Args:
            losses, accuracy: of this worker's share alone.
            summed_terms: see losses.Loss. Weight decay does not depend on the batch.
        """
        factors = {name: self.present for name in summed_terms}
        factors["weight_decay"] = 1.0 / self.collectives.count
        terms = {name: factors.get(name, self.portion) * value
                 for name, value in losses.items() if name != "total"}
        return (dict(total=tf.add_n(list(terms.values())), **terms), self.portion * accuracy)

    def together(self, network, labels, losses, accuracy, gradients):
        """Sums or gathers everything that a step's changes depend on.

        No result is ready before all are, so a step in which a worker is lost changes nothing.

        Args:
            network: the model.Network of this worker's share.
            labels: int32 [own share].
            losses, accuracy: see `shares`.
            gradients: list of (gradient, variable) of this worker's part of the total.

        Returns:
            (descriptors, labels, losses, accuracy, gradients, update) of the joint batch; update is
            the op that moves batch norm's statistics.
        """
        dense, by_label = [], []  # gradients; that of the centers has a row per image
        for gradient, _ in reversed(gradients):  # the last ones are known first
            if isinstance(gradient, tf.IndexedSlices):
                by_label.append(gradient.values)
            else:
                dense.append(gradient)
        rows, labels = self._gather_rows([network.descriptor] + by_label, labels)
        numbers = tf.stack(list(losses.values()) + [accuracy])
        statistics = self._batch_norm.parts()
        sums = self.collectives.sum_all(dense + statistics + [numbers, self.stop])
        with tf.control_dependencies(sums + rows + [labels]):
            begin = self.begun.assign_add(1.0, read_value=False)
        with tf.control_dependencies([begin]):
            sums = [tf.identity(tensor) for tensor in sums]
            rows, labels = [tf.identity(tensor) for tensor in rows], tf.identity(labels)

        numbers, self.stops = sums[-2:]
        *values, accuracy = tf.unstack(numbers)
        dense, by_label = sums[:len(dense)], rows[1:]
        gradients = [(tf.IndexedSlices(by_label.pop(), labels, gradient.dense_shape)
                      if isinstance(gradient, tf.IndexedSlices) else dense.pop(), variable)
                     for gradient, variable in gradients]
        with tf.control_dependencies([begin]):
            update = self._batch_norm.update_by(sums[-2 - len(statistics):-2])
        return (rows[0], labels, dict(zip(losses, values)), accuracy, gradients, update)

    def _gather_rows(self, tensors, labels):
        """Tensors [own share, D] and their labels -> those of the joint batch, in its order.

        All gathered shares have the same size: rows of label -1 fill them up, and are then removed.
        """
        capacity = -(-self._config.batch_size // self.collectives.count)
        own = tf.cast(self._own_count, tf.int32)

        def padded(values, value):
            sizes = values.shape.as_list()[1:]
            values = tf.pad(values[:own], [[0, capacity - own]] + [[0, 0]] * len(sizes),
                            constant_values=value)
            return tf.reshape(values, [capacity] + sizes)
        size = int(tensors[0].shape[-1])
        rows = tf.concat([tf.reshape(tensor, [-1, size]) for tensor in tensors], axis=1)
        labels = self.collectives.gather(padded(labels, -1))
        rows = self.collectives.gather(padded(rows, 0.0))
        real = labels >= 0
        return (tf.split(tf.boolean_mask(rows, real), len(tensors), axis=1),
                tf.boolean_mask(labels, real))


class LocalBatchNorm(model.BatchNorm):
    """Batch norm with the statistics of the worker's own share, as is usual.

    The moving statistics take the mean of all shares' statistics, weighted by size, so they are the
    same on all workers.

    Args:
        joint: a JointStep.
        training: see model.BatchNorm.
    """

    def __init__(self, joint, training):
        super().__init__(training)
        self._joint = joint

    def update_moving_statistics(self):
        """Does nothing: `update_by` follows once the step's sums are known."""
        return tf.no_op()

    def parts(self):
        """This worker's parts of the batch's statistics, to be summed over the workers."""
        return [self._joint.portion * batch for _, batch, _ in self._statistics]

    def update_by(self, sums):
        """The op that moves the statistics by the joint sums of `parts`."""
        self._statistics = [(moving, joint, rate) for (moving, _, rate), joint
                            in zip(self._statistics, sums)]
        return super().update_moving_statistics()


class SynchronousBatchNorm(LocalBatchNorm):
    """Batch norm with the statistics of the joint batch; gradients pass through them."""

    def normalise(self, values, gamma, beta, moving_mean):
        """See model.BatchNorm. One joint sum forwards, and one backwards for its gradient."""
        joint, channels, dtype = self._joint, int(values.shape[-1]), values.dtype
        values = tf.cast(values, tf.float32)
        # Less the moving mean, which is the same on all workers, so that squares are small.
        shift = moving_mean.read_value()
        shifted = values - shift
        sums = joint.collectives.sum(joint.present * tf.concat(
            [tf.reduce_sum(shifted, axis=[0, 1, 2]),
             tf.reduce_sum(tf.square(shifted), axis=[0, 1, 2])], axis=0))
        count = joint.joint_count * int(values.shape[1]) * int(values.shape[2])
        mean, square = sums[:channels] / count, sums[channels:] / count
        variance = square - tf.square(mean)
        scale = gamma * tf.rsqrt(variance + model.BATCH_NORM_EPSILON)
        normalised = (shifted - mean) * scale + beta
        return (tf.cast(normalised, dtype), mean + shift,
                variance * count / tf.maximum(count - 1.0, 1.0))

    def parts(self):
        """None: the statistics are joint already."""
        return []

    def update_by(self, _):
        """See LocalBatchNorm."""
        return model.BatchNorm.update_moving_statistics(self)
