# Compiled always where nvcc is found, for sm_90a, sm_120a and sm_121a; run only where a GPU is.
SUFFIXES = .cu
cuda_headers = kernels/cuda/attn_decode.h kernels/cuda/attn_prefill.h \
	kernels/cuda/attn_prefill.cuh kernels/cuda/gdn_prefill.h kernels/cuda/gdn_prefill.cuh \
	kernels/cuda/gdn_scan_int.cuh kernels/cuda/gdn_scan_output.cuh kernels/cuda/gdn_scan_state.cuh \
	kernels/cuda/wgmma.cuh kernels/cuda/gdn_step.h kernels/cuda/gdn_step_block.cuh \
	kernels/cuda/gdn_step_kept.cuh kernels/cuda/gdn_step_row.cuh kernels/cuda/rows.h \
	kernels/cuda/decode_matmul.h kernels/cuda/decode_matmul_int.cuh kernels/cuda/decode_narrow.cuh kernels/cuda/decode_unit.cuh \
	kernels/cuda/bulk.cuh kernels/cuda/decode_end.cuh kernels/cuda/decode_row.cuh kernels/cuda/decode_row_choice.cuh \
	kernels/cuda/decode_row_int.cuh kernels/cuda/decode_row_next.cuh kernels/cuda/decode_row_product.cuh kernels/cuda/norm.cuh kernels/cuda/row_words.cuh kernels/cuda/warp_sum.cuh kernels/cuda/decode_ring.cuh kernels/cuda/decode_ring_item.cuh \
	kernels/cuda/decode_square.cuh kernels/cuda/decode_square_x.cuh \
	kernels/cuda/decode_square_split.cuh \
	kernels/cuda/decode_square_tall.cuh kernels/cuda/decode_square_tall_x.cuh kernels/cuda/ring_turn.cuh \
	kernels/cuda/decode_wide.cuh kernels/cuda/fragment.cuh kernels/cuda/mma.cuh kernels/cuda/once.cuh kernels/cuda/pack.h \
	kernels/cuda/device.h kernels/cuda/device_int.h kernels/cuda/residual.h kernels/cuda/sample.h \
	kernels/cuda/async.cuh kernels/cuda/kv.cuh kernels/cuda/launch.cuh kernels/cuda/route.h kernels/cuda/route_choice.cuh kernels/cuda/route_list.cuh \
	kernels/cuda/prefill_matmul.h kernels/cuda/wgmma_weights.cuh \
	kernels/cuda/loader.h kernels/cuda/pack_lane.h kernels/cuda/weights.h
cuda_headers += kernels/cuda/fp4_lane.h kernels/cuda/fp4_mma.cuh kernels/cuda/prefill_fp4.h \
	kernels/cuda/prefill_place.cuh kernels/cuda/prefill_hopper.h kernels/cuda/prefill_hopper.cuh \
	kernels/cuda/prefill_pairs.h kernels/cuda/prefill_pairs.cuh \
	kernels/cuda/prefill_pairs_store.cuh kernels/cuda/tensor_map.cuh kernels/cuda/wgmma_widths.cuh
EXTRA_DIST += $(cuda_headers)
EXTRA_DIST += kernels/cuda/README.md kernels/cuda/forward_int.h kernels/cuda/prefill_store.cuh kernels/cuda/prefill_tile.cuh \
	kernels/cuda/sample_keys.cuh

.cu.o:
	$(AM_V_GEN)$(MKDIR_P) $(@D) && $(NVCC) -I$(top_srcdir) -I$(top_builddir) $(XXHASH_CFLAGS) $(NVCCFLAGS) -MD -MP -MF $@.d -c -o $@ $<

if CUDA
noinst_LIBRARIES += libcudakernels.a
libcudakernels_a_SOURCES = \
	kernels/cuda/attn_decode.cu \
	kernels/cuda/attn_prefill.cu \
	kernels/cuda/attn_prefill_in.cu \
	kernels/cuda/attn_prefill_wgmma.cu \
	kernels/cuda/backend.c \
	kernels/cuda/decode_end.cu \
	kernels/cuda/decode_row.cu \
	kernels/cuda/decode_args.cu \
	kernels/cuda/decode_sum.cu \
	kernels/cuda/decode_matmul.cu \
	kernels/cuda/decode_ring.cu \
	kernels/cuda/decode_square.cu kernels/cuda/decode_wide.cu \
	kernels/cuda/device.cu \
	kernels/cuda/digest.cu \
	kernels/cuda/expert_list.cu \
	kernels/cuda/forward.cu \
	kernels/cuda/forward_experts.cu \
	kernels/cuda/gdn_convolve.cu \
	kernels/cuda/gdn_prefill.cu \
	kernels/cuda/gdn_prepare.cu \
	kernels/cuda/gdn_scan.cu \
	kernels/cuda/gdn_step.cu \
	kernels/cuda/launch.cu \
	kernels/cuda/pack.c \
	kernels/cuda/pass.cu \
	kernels/cuda/pass_bring.cu \
	kernels/cuda/plan.cu \
	kernels/cuda/prefill.cu \
	kernels/cuda/prefill_hopper.cu \
	kernels/cuda/prefill_list.cu \
	kernels/cuda/prefill_matmul.cu \
	kernels/cuda/prefill_pairs.cu \
	kernels/cuda/residual.cu \
	kernels/cuda/rotation.cu \
	kernels/cuda/route.cu \
	kernels/cuda/rows.cu \
	kernels/cuda/sample.cu \
	kernels/cuda/slot.cu \
	kernels/cuda/state_copy.cu \
	kernels/cuda/submit.cu \
	kernels/cuda/loader.cu \
	kernels/cuda/measure.cu \
	kernels/cuda/weights.cu \
	kernels/cuda/workspace.cu
libcudakernels_a_SOURCES += kernels/cuda/fp4_load.cu kernels/cuda/prefill_fp4.cu kernels/cuda/prefill_fp4_check.cu \
	kernels/cuda/prefill_fp4_rows.cu
# What a program adds to have the CUDA back end (kernels/device.c looks for it).
cuda_backend_ldflags = -Wl,-u,cuda_backend_open
cuda_backend_libs = libcudakernels.a libkernels.a liblib.a $(CUDA_LIBS)
# what nvcc said of every object, those of tests and benches too
-include $(wildcard kernels/cuda/*.o.d tests/gpu/*.o.d tests/unit/*.o.d bench/cuda/*.o.d)
CLEANFILES += kernels/cuda/*.o.d tests/gpu/*.o.d tests/unit/*.o.d bench/cuda/*.o.d
endif
