# The model travels with the source: its tests and the demo need nothing else.
dist_noinst_DATA += \
	models/tiny/chat_template.jinja models/tiny/config.json models/tiny/generation_config.json \
	models/tiny/model-00001-of-00003.safetensors models/tiny/model-00002-of-00003.safetensors \
	models/tiny/model-00003-of-00003.safetensors models/tiny/model.safetensors.index.json \
	models/tiny/tokenizer.json models/tiny/tokenizer_config.json
