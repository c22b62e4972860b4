/* What NVIDIA's management library says of GPUs: memory, utilisation, temperature, power. It comes with the driver and
 * is loaded when it is asked for, so that nothing needs it; the few declarations here follow its public API
 * documentation. Calls may take long where a card is in trouble: not for event loops. One thread. */
#ifndef LAGOON_GPU_NVML_H
#define LAGOON_GPU_NVML_H

#include <stdbool.h>
#include <stdint.h>

#include "common/status.h"

#define NVML_LIBRARY "libnvidia-ml.so.1"

enum { NVML_BUS_ID_BYTES = 32, NVML_NAME_BYTES = 96 };

struct nvml;

/* Memory is that of all processes. Utilisation: percent of the last second or less in which a kernel ran. */
struct nvml_numbers {
    char name[NVML_NAME_BYTES]; /* "": unknown */
    bool memory_known, utilisation_known, temperature_known, power_known;
    uint64_t memory_bytes, memory_used_bytes, power_mw;
    uint32_t utilisation_percent, temperature_c;
};

/* Loads `library` (NVML_LIBRARY, or a path) and starts it. LG_UNSUPPORTED, with the reason: it is not there, or it does
 * not work here. */
LG_MUST_CHECK enum lg_status nvml_open(const char *library, struct nvml **out, struct lg_error *error);
void nvml_close(struct nvml *nvml); /* NULL is fine */

/* Numbers of the card at a PCI address ("0000:65:00.0"), each where it is known. False: there is no such card. Of a
 * card that is divided (MIG) they are the whole card's. */
bool nvml_read(struct nvml *nvml, const char *bus_id, struct nvml_numbers *numbers);

/* The PCI address of cuda:`number` as this process counts GPUs, which CUDA_VISIBLE_DEVICES changes and NVML does not
 * know. False where the driver gives none. */
bool nvml_bus_id(unsigned number, char bus_id[NVML_BUS_ID_BYTES]);

#endif
