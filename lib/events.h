/* events.h - the MESSAGE_ID of every event that a program of ours tells the journal.
 *
 * An id is fixed for ever: people search by it.  etc/catalog/hearth.catalog explains each of them;
 * tests/lint/catalog.sh holds the two together.  Make a new one with `systemd-id128 new`.
 */
#ifndef HEARTH_LIB_EVENTS_H
#define HEARTH_LIB_EVENTS_H

#define EVENT_ROUTER_LISTENING       "73d2b5f8eb33423eaac2ba07ceaf4943"
#define EVENT_ROUTER_STOPPING        "37cbaaef125141d08ab83047ad7f3c34"
#define EVENT_ROUTER_CANNOT_START    "7f185c5a099d40ea84972f0fac118cad"
#define EVENT_RELOAD_DONE            "02c9f7c11e3f4bd0b4336202fe066be5"
#define EVENT_RELOAD_REFUSED         "cb9c32b9215a4b838700d56e0872d980"
#define EVENT_RELOAD_NEEDS_RESTART   "a4ab07417f1c48dabe8efb3f859d84bb"
#define EVENT_WORKER_JOINED          "5c7375d618f540ab86ece584061b19a0"
#define EVENT_WORKER_LOST            "4dd4b4fb2a1e4e58b253d3307191e7c6"
#define EVENT_REQUEST_MOVED          "2b4a569bc18542b78bf41cbfa03142f7"
#define EVENT_REQUEST_ENDED          "8ec3f2ba9c8f4d12873bb1103bf0895c"
#define EVENT_KEY_REFUSED            "50a3c4612b3d41d5837faffcc1f6c2cf"
#define EVENT_ROLE_REFUSED           "d59258e0d0bb4b359713a8c3382125df"
#define EVENT_NO_ADMIN_KEY           "aec912fef95a40a0a7e439cfad5a6252"
#define EVENT_ODD_ROLE               "fe0e250accbb468e8cde7dde3cd162ec"
#define EVENT_MODEL_BUDGET           "65911a3ff55b4010b651a661cef52f58"
#define EVENT_MODEL_LOADED           "605add4fe5fe42bebda22814cf700899"
#define EVENT_MODEL_REFUSED          "89a8a1ff46134a85951c4cd05bb9dbbe"
#define EVENT_SELF_TEST_FAILED       "4d5c1b74ba4f4fcc941bf41e6c90d950"
#define EVENT_DEVICE_LOST            "fe1f759b38a84e15820e5912f3087451"
#define EVENT_STEP_LOOP_STUCK        "6eab4d5a3c914dcd8c3856f8fb7423fc"
#define EVENT_NO_NUMBER              "7892cfda756c420da1e10c3f5d4f30b5"
#define EVENT_ROUTER_FOUND           "f12284c34de54fcab58d8d3af96974dd"
#define EVENT_ROUTER_LOST            "077b3d2a8ce94e4f9d2c9577ec34df0d"
#define EVENT_WORKER_DRAINING        "32e4ffe98fac4abda1e746b3cc13c822"
#define EVENT_SOCKETS_DIFFER         "88649a65184f48938a816ad85060156c"
#define EVENT_MODEL_BACKOFF          "c9325c16545545adbb8f9bd0163b4c9f"
#define EVENT_MODEL_QUARANTINED      "1c7f7d5ee9fa4017aca258c3eac0d9bc"
#define EVENT_BOX_JOINED             "45519baa49e24566817993b1eb0a4c83"
#define EVENT_BOX_LOST               "315535689f0a4b7082e97d5ba03763ab"
#define EVENT_MEMORY_GRANTED         "7eeca50be45a47b0b08d9e2aaa423950"
#define EVENT_MEMORY_REFUSED         "f27413f1038d43f4a96bd7779dc36bda"
#define EVENT_MEMORY_LEVEL           "f53b28c005824a0d962c0fe3a2595930"
#define EVENT_MEMORY_SHED            "5ad070a9839243eeb8286a8b41f75c34"
#define EVENT_CACHES_DROPPED         "f3f9214a9f70470fa2660872a94b9b5a"
#define EVENT_WORKLOAD_CHANGED       "69b72779a9b64224a5951f5661a1d0bc"

#endif
