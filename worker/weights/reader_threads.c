/* reader_threads.c - reads by threads that block in pread(): see reader.h. */
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib/own.h"
#include "worker/weights/reader.h"

#define STACK ((size_t)128 << 10)

struct queue {
	struct read_request *first, **last;
};

struct thread_reader {
	struct reader base;
	pthread_mutex_t lock;
	pthread_cond_t work, ready;
	struct queue pending, done;
	bool stop;
	pthread_t threads[READ_THREAD_N];
	unsigned n_threads;
};

static void put(struct queue *q, struct read_request *x)
{
	x->next = NULL;
	*q->last = x;
	q->last = &x->next;
}

static struct read_request *get(struct queue *q)
{
	struct read_request *x = q->first;

	if (x && !(q->first = x->next))
		q->last = &q->first;
	return x;
}

static void read_all(struct read_request *q)
{
	ssize_t r;

	do {
		r = pread(q->file->fd, q->to + q->got, q->n - q->got, (off_t)read_request_at(q));
	} while (!read_request_step(q, r < 0 ? -errno : r));
}

static void *thread_main(void *arg)
{
	struct thread_reader *t = arg;
	struct read_request *q;

	pthread_mutex_lock(&t->lock);
	while (!t->stop) {
		q = get(&t->pending);
		if (!q) {
			pthread_cond_wait(&t->work, &t->lock);
			continue;
		}
		pthread_mutex_unlock(&t->lock);
		read_all(q);
		pthread_mutex_lock(&t->lock);
		put(&t->done, q);
		pthread_cond_signal(&t->ready);
	}
	pthread_mutex_unlock(&t->lock);
	return NULL;
}

static void submit(struct reader *r, struct read_request *q)
{
	struct thread_reader *t = (struct thread_reader *)r;

	pthread_mutex_lock(&t->lock);
	put(&t->pending, q);
	pthread_mutex_unlock(&t->lock);
	pthread_cond_signal(&t->work);
}

static void flush(struct reader *r)
{
	(void)r;
}

static struct read_request *take(struct reader *r, bool wait)
{
	struct thread_reader *t = (struct thread_reader *)r;
	struct read_request *q;

	pthread_mutex_lock(&t->lock);
	while (!(q = get(&t->done)) && wait)
		pthread_cond_wait(&t->ready, &t->lock);
	pthread_mutex_unlock(&t->lock);
	return q;
}

static struct reader *close_threads(struct reader *r)
{
	struct thread_reader *t = (struct thread_reader *)r;

	pthread_mutex_lock(&t->lock);
	t->stop = true;
	pthread_mutex_unlock(&t->lock);
	pthread_cond_broadcast(&t->work);
	while (t->n_threads)
		pthread_join(t->threads[--t->n_threads], NULL);
	pthread_cond_destroy(&t->ready);
	pthread_cond_destroy(&t->work);
	pthread_mutex_destroy(&t->lock);
	free(t);
	return NULL;
}

static const struct reader_ops ops = { READ_THREADS, submit, flush, take, close_threads };

int reader_open_threads(struct reader **ret, struct err *e)
{
	struct thread_reader *t = calloc(1, sizeof(*t));
	pthread_attr_t attr;

	if (!t)
		return err_set(e, -ENOMEM, "out of memory");
	t->base.ops = &ops;
	t->pending.last = &t->pending.first;
	t->done.last = &t->done.first;
	pthread_mutex_init(&t->lock, NULL);
	pthread_cond_init(&t->work, NULL);
	pthread_cond_init(&t->ready, NULL);
	pthread_attr_init(&attr);
	(void)pthread_attr_setstacksize(&attr, STACK);
	while (t->n_threads < READ_THREAD_N &&
	       pthread_create(&t->threads[t->n_threads], &attr, thread_main, t) == 0)
		t->n_threads++;
	pthread_attr_destroy(&attr);
	if (t->n_threads == 0) {	/* fewer than wanted are slower, and enough */
		close_threads(&t->base);
		return err_set(e, -ENOMEM, "no thread to read the weights with");
	}
	*ret = &t->base;
	return 0;
}
