/* cli.h - hearth-worker text VERB MODEL_DIR: the text side of a worker by hand.
 *
 * JSON lines on standard input, for each one JSON line on standard output, in order and
 * flushed, so that another program can talk to it.  What is wrong with a line is said in its
 * answer, {"error": {"message": "..."}}, and the next line is read.
 *
 *	render	a chat request (messages, tools, chat_template_kwargs, ...)
 *		-> {"prompt": "..."}; made fit for the template first (request.h), unless it
 *		has "raw": true
 *	encode	{"text": "...", "special": true}
 *		-> {"ids": [...]}; special false: names of special tokens are plain text
 *	decode	{"ids": [...], "skip_special": false, "stream": false}
 *		-> {"text": "..."}, or with stream {"deltas": ["..."]}, one an id
 *	parse	{"text": "...", "tools": [...], "tool_choice": ..., "enable_thinking": true,
 *		 "pieces": [byte offsets where the text is cut], "finish_reason": "length"}
 *		-> {"message": {"reasoning_content", "content", "tool_calls"}, "deltas": n}
 *
 * parse needs nothing but "text" and no file of the model.  It takes the text for one that
 * may have been cut by the length limit, unless finish_reason is given and something else.
 * reasoning_content and content are null when empty, tool_calls is left out when there is no
 * call; deltas counts the events of the stream.
 */
#ifndef HEARTH_WORKER_TEXT_CLI_H
#define HEARTH_WORKER_TEXT_CLI_H

/* argv[0] is "text".  The exit status: 0; 64 for wrong usage; 78 for a model that cannot be
 * read; 74 when input or output fails. */
int text_cli_main(int argc, char **argv);

#endif
