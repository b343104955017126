/* top_screen.c - hearthctl top on a terminal; the one door to ncurses. */
#include <curses.h>
#include <stdlib.h>

#include "ctl/top.h"

enum { ANSWER_MS = 2000 };

static int attribute(const struct ctl *c, enum top_style style)
{
	bool color = c->color && has_colors();

	switch (style) {
	case TOP_HEAD: return (int)A_BOLD;
	case TOP_COLUMNS: return (int)A_REVERSE;
	case TOP_GOOD: return color ? COLOR_PAIR(1) : 0;
	case TOP_WARN: return color ? COLOR_PAIR(2) : (int)A_BOLD;
	case TOP_BAD: return (int)A_BOLD | (color ? COLOR_PAIR(3) : 0);
	default: return 0;
	}
}

static void draw(const struct ctl *c, const struct top_frame *f, size_t first, bool paused)
{
	erase();
	for (int y = 0; y < LINES - 1 && first + (size_t)y < f->n_lines; y++) {
		const struct top_line *l = &f->lines[first + (size_t)y];

		attrset(attribute(c, l->style));
		mvaddnstr(y, 0, f->text.p + l->at, l->n < (size_t)COLS ? (int)l->n : COLS);
	}
	attrset((int)A_DIM);
	mvprintw(LINES - 1, 0, "%.*s", COLS - 1,
		 paused ? "q quit  p go on  arrows scroll  -- stopped --"
			: "q quit  p stop  arrows scroll");
	attrset((int)A_NORMAL);
	refresh();
}

static bool begin(const struct ctl *c)
{
	if (!newterm(NULL, stdout, stdin))
		return false;
	cbreak();
	noecho();
	keypad(stdscr, TRUE);
	curs_set(0);
	if (c->color && has_colors()) {
		start_color();
		use_default_colors();
		init_pair(1, COLOR_GREEN, -1);
		init_pair(2, COLOR_YELLOW, -1);
		init_pair(3, COLOR_RED, -1);
	}
	return true;
}

/* False: enough. */
static bool take_key(int key, const struct top_frame *f, size_t *first, bool *paused)
{
	switch (key) {
	case 'q':
	case 'Q':
	case 27: return false;
	case 'p': *paused = !*paused; break;
	case KEY_UP: *first -= *first > 0; break;
	case KEY_DOWN: *first += *first + 1 < f->n_lines; break;
	case KEY_HOME: *first = 0; break;
	default: break;
	}
	return true;
}

int top_screen(const struct ctl *given, struct err *e)
{
	struct top_frame f = { 0 };
	struct ctl c = *given;
	size_t first = 0;
	bool paused = false;
	int key;

	c.limit_ms = ANSWER_MS;		/* a person can leave while a router does not answer */
	if (!begin(&c))
		return err_set(e, -ENOTTY, "this terminal (TERM=%s) cannot be drawn on; try --once",
			       getenv("TERM") ? getenv("TERM") : "");
	do {
		if (!paused)
			(void)top_frame_fill(&c, &f, e); /* a router that is away may come back */
		if (first >= f.n_lines)
			first = 0;
		draw(&c, &f, first, paused);
		timeout((int)c.interval_ms);
		key = getch();
	} while (take_key(key, &f, &first, &paused));
	endwin();
	top_frame_done(&f);
	return 0;
}
