"""Faults that someone could plausibly make, each with the test that must catch it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One edit of one file: `old`, which stands there exactly once, becomes `new`."""

    name: str
    file: str
    old: str
    new: str
    test: str
    """`path::name`, the quickest test that must fail."""

    def apply(self, text: str) -> str:
        """Return the faulty text; raises ValueError if `old` is not there exactly once."""
        if text.count(self.old) != 1:
            raise ValueError(f"fault {self.name!r}: {self.old!r} stands {text.count(self.old)} times in {self.file}")
        return text.replace(self.old, self.new)


_EVERY_STACK = "tests/program/test_components.py::TestEveryStack"
_SETTINGS = "tests/program/test_settings.py::test_a_bad_value_is_refused_with_place_value_choices_and_remedy"

COMPONENTS = (
    Fault(
        name="firewall rule for the probes is gone",
        file="components/network.py",
        old='self._rules = [self._allow("probes", [*contract.PROBE_RANGES], contract.API_PORT)]',
        new="self._rules: list[gcp.compute.Firewall] = []",
        test=f"{_EVERY_STACK}::test_only_the_balancer_and_its_probes_reach_the_vms_and_only_the_api",
    ),
    Fault(
        name="firewall lets everyone reach the VMs",
        file="components/network.py",
        old="[*contract.PROBE_RANGES]",
        new='["0.0.0.0/0"]',
        test=f"{_EVERY_STACK}::test_only_the_balancer_and_its_probes_reach_the_vms_and_only_the_api",
    ),
    Fault(
        name="group is given a size beside its autoscaler",
        file="components/gpu_group.py",
        old="distribution_policy_zones=[*zones],",
        new="distribution_policy_zones=[*zones], target_size=args.pool.min_vms,",
        test=f"{_EVERY_STACK}::test_groups_leave_their_size_to_the_autoscaler",
    ),
    Fault(
        name="rollout may add fewer VMs than there are zones",
        file="components/settings/fleet.py",
        old="return zones if self.max_surge is None",
        new="return 1 if self.max_surge is None",
        test="tests/program/test_components.py::TestGroup::test_a_rollout_adds_before_it_takes_away",
    ),
    Fault(
        name="VMs do not wait for what they need at boot",
        file="components/gpu_group.py",
        old="depends_on=[*args.boot_needs],",
        new="",
        test=f"{_EVERY_STACK}::test_vms_wait_for_what_they_need_at_boot",
    ),
    Fault(
        name="autoscaler reads the metric of another name",
        file="components/gpu_group.py",
        old="scaling.gpu_metric(args.names.program, args.names.stack)",
        new="scaling.gpu_metric(args.names.stack, args.names.program)",
        test=f"{_EVERY_STACK}::test_agent_descriptor_and_autoscaler_name_one_metric",
    ),
    Fault(
        name="scale-in control declared without its limit",
        file="components/gpu_group.py",
        old="fixed=scaling.scale_in.max_replicas",
        new="percent=100",
        test="tests/program/test_components.py::TestGroup::test_autoscaling_signals_of_the_tutorial",
    ),
    Fault(
        name="autohealing asks for serving health",
        file="components/gpu_group.py",
        old="request_path=contract.LIVENESS_PATH",
        new="request_path=contract.MODEL_PATH",
        test=f"{_EVERY_STACK}::test_the_balancer_asks_for_serving_health_and_autohealing_for_liveness",
    ),
    Fault(
        name="a VM counts as live before the balancer can know it",
        file="components/gpu_group.py",
        old="return 1 + math.ceil(balancer_s / interval_s)",
        new="return math.ceil(contract.PROBE_INTERVAL_S / interval_s)",
        test=f"{_EVERY_STACK}::test_a_vm_counts_as_live_only_after_the_balancer_found_it_healthy",
    ),
    Fault(
        name="load balancer scheme left to the provider's default",
        file="components/load_balancer.py",
        old='load_balancing_scheme=SCHEME,\n            protocol="HTTP",',
        new='protocol="HTTP",',
        test=f"{_EVERY_STACK}::test_load_balancing_scheme_is_explicit",
    ),
    Fault(
        name="builder may overwrite published models",
        file="components/model_build.py",
        old='"roles/storage.objectCreator"',
        new='"roles/storage.objectAdmin"',
        test=f"{_EVERY_STACK}::test_serving_reads_and_the_builder_cannot_overwrite",
    ),
    Fault(
        name="templates do not wait for their model",
        file="__main__.py",
        old="        hooks=build_gate.template_hooks,\n",
        new="",
        test="tests/program/test_components.py::TestTemplate::test_templates_wait_for_what_makes_their_model",
    ),
    Fault(
        name="every update starts the builder VM again",
        file="components/builder.py",
        old="zone=args.settings.builder_zone,",
        new='zone=args.settings.builder_zone, desired_status="RUNNING",',
        test="tests/program/test_components.py::TestBuilder::test_nothing_declares_whether_it_runs",
    ),
    Fault(
        name="build gate starts a builder that dies for ever again",
        file="components/builder_wait.py",
        old="        if self._started:\n",
        new="        if self._started and news is not None:\n",
        test="tests/program/test_gates_build.py"
        "::test_a_builder_that_never_comes_to_a_word_is_started_once_and_then_given_up",
    ),
    Fault(
        name="build gate looks for the manifest before it looks at the VM",
        file="components/builder_wait.py",
        old="        vm_status = site.vm_status()\n        if site.is_published():\n",
        new="        published = site.is_published()\n        vm_status = site.vm_status()\n        if published:\n",
        test="tests/program/test_gates_build.py"
        "::test_a_builder_that_publishes_and_powers_off_between_two_looks_has_not_failed",
    ),
    Fault(
        name="an update ends before its VMs serve",
        file="components/gates.py",
        old="            return\n        wait(fleet, self._timeout_s, say, clock)\n",
        new="            return\n",
        test="tests/program/test_gates_cloud.py::test_an_update_that_does_not_arrive_names_vm_zone_and_reason",
    ),
    Fault(
        name="unknown settings are ignored",
        file="components/settings/section.py",
        old='extra="forbid"',
        new='extra="ignore"',
        test=f"{_SETTINGS}[unknown key]",
    ),
    Fault(
        name="a pool in one zone is accepted",
        file="components/settings/fleet.py",
        old="if len(set(zones)) < max(2, len(zones)):",
        new="if len(set(zones)) < len(zones):",
        test=f"{_SETTINGS}[one zone]",
    ),
    Fault(
        name="bundle carries the time of its making",
        file="components/bundle.py",
        old="            member.size = len(content)\n",
        new="            member.size = len(content)\n            member.mtime = (repository / path).stat().st_mtime\n",
        test="tests/program/test_bundle.py::test_times_modes_caches_and_order_of_creation_do_not_show",
    ),
)

ARTIFACT = (
    Fault(
        name="archive's digest is not checked when it is fetched",
        file="artifact/repository.py",
        old='        verify_file(download, manifest.archive, f"{uri}{download.name}")\n',
        new="",
        test="tests/artifact/test_repository.py::test_a_corrupted_archive_is_refused_naming_both_digests",
    ),
    Fault(
        name="only sizes are compared, not digests",
        file="artifact/archive.py",
        old="if found != FileEntry(sha256=expected.sha256, size=expected.size):",
        new="if found.size != expected.size:",
        test="tests/artifact/test_archive.py::test_a_wrong_digest_names_both",
    ),
    Fault(
        name="archive may write outside its folder",
        file="artifact/archive.py",
        old='if name.is_absolute() or ".." in name.parts:',
        new="if name.is_absolute():",
        test="tests/artifact/test_archive.py::test_a_member_outside_the_folder_is_refused",
    ),
    Fault(
        name="manifest is published before the archive",
        file="artifact/repository.py",
        old="            _create(bucket, uri.object(archive.name), archive)\n",
        new="            _create(bucket, uri.object(MANIFEST_FILE), folder / MANIFEST_FILE)\n"
        "            _create(bucket, uri.object(archive.name), archive)\n",
        test="tests/artifact/test_repository.py::test_the_manifest_goes_last",
    ),
    Fault(
        name="manifest that came meanwhile is overwritten",
        file="artifact/repository.py",
        old="content_type=kind, if_generation_match=0,",
        new="content_type=kind,",
        test="tests/artifact/test_repository.py::test_the_loser_of_a_race_ends_with_the_winners_manifest",
    ),
    Fault(
        name="key ignores the recipe",
        file="artifact/recipe.py",
        old="recipe=self.recipe.canonical(self.runtime),",
        new="recipe=Recipe().canonical(self.runtime),",
        test="tests/artifact/test_key.py::test_recipe_and_runtime_change_the_key_but_gpu_only_where_there_are_plans",
    ),
    Fault(
        name="key ignores the model code",
        file="artifact/key.py",
        old='("artifact", "model", "contract.py", "locks/model.txt")',
        new='("artifact", "contract.py", "locks/model.txt")',
        test="tests/artifact/test_key.py::test_the_code_digest_sees_code_and_nothing_else",
    ),
    Fault(
        name="decompression bombs are decoded",
        file="artifact/preprocessing.py",
        old="if header.height * header.width > MAX_PIXELS:",
        new="if header.height > MAX_PIXELS or header.width > MAX_PIXELS:",
        test="tests/serving/test_gateway.py::test_a_decompression_bomb_is_refused_by_its_header",
    ),
)

MODEL = (
    Fault(
        name="signal-to-noise gate never fails",
        file="model/evaluate/gates.py",
        old="passed=sqnr >= MIN_SQNR_DB",
        new="passed=True",
        test="tests/model/test_gates.py::test_noise_fails_the_signal_to_noise_gate_alone",
    ),
    Fault(
        name="a fold's graph has seen its own photos",
        file="model/build/split.py",
        old="return group in {fold, _BESIDE + fold}",
        new="return group == _BESIDE + fold",
        test="tests/model/test_evaluation.py::test_no_graph_is_judged_with_what_it_was_calibrated_on",
    ),
    Fault(
        name="one good output hides a bad one",
        file="model/evaluate/accuracy.py",
        old="        return min(\n",
        new="        return max(\n",
        test="tests/model/test_evaluation.py::test_the_worst_output_counts",
    ),
    Fault(
        name="a damaged result of a stage is used",
        file="model/build/cache.py",
        old="if found[name] != expected:",
        new="if name not in found:",
        test="tests/model/test_stage_cache.py::test_a_damaged_entry_is_told_once_and_then_gone",
    ),
    Fault(
        name="another recipe reuses the old graphs",
        file="model/build/stage.py",
        old='"asks": {name: fields[name] for name in self.asks},',
        new='"asks": [*self.asks],',
        test="tests/model/test_stage_cache.py::test_a_changed_request_is_made_anew_from_the_stage_that_it_concerns",
    ),
    Fault(
        name="a Q/DQ pair between convolution and ReLU",
        file="model/quantise/placement.py",
        old="        elif node.op_type in POOLS:\n",
        new="        elif node.op_type in POOLS | ACTIVATIONS:\n",
        test="tests/model/test_placement.py::test_nothing_stands_between_a_convolution_and_its_activation",
    ),
    Fault(
        name="seven-bit weights saturate in pairs",
        file="model/quantise/qdq.py",
        old="PAIR_LIMIT: Final = 128",
        new="PAIR_LIMIT: Final = 254",
        test="tests/model/test_weights.py::test_a_channel_with_one_great_weight_keeps_its_eight_bits",
    ),
    Fault(
        name="a checkpoint may name any class",
        file="model/source/torch_checkpoint.py",
        old='        raise CheckpointError(f"the checkpoint wants {module}.{name},',
        new="        return super().find_class(module, name)\n"
        '        raise CheckpointError(f"the checkpoint wants {module}.{name},',
        test="tests/model/test_source.py::test_a_checkpoint_that_runs_code_is_refused",
    ),
)

SERVING = (
    Fault(
        name="agent writes another metric's name",
        file="serving/settings.py",
        old="type=contract.gpu_metric_type(project, stack)",
        new="type=contract.gpu_metric_type(stack, project)",
        test="tests/serving/test_metadata.py::test_a_vms_settings_come_from_its_metadata",
    ),
    Fault(
        name="agent writes while the VM is out of rotation",
        file="serving/agent.py",
        old="if not status.read().serving:",
        new="if not status.read().live:",
        test="tests/serving/test_agent.py::test_a_vm_out_of_rotation_writes_nothing",
    ),
    Fault(
        name="health is 200 while draining",
        file="serving/health.py",
        old="serving=not problem and not self.draining,",
        new="serving=not problem,",
        test="tests/serving/test_health.py::test_draining_is_not_serving_but_live_and_its_gpus_serve_on",
    ),
    Fault(
        name="liveness is 200 before the VM first served",
        file="serving/health.py",
        old='return f"has not served since the VM booted: {self._problem(now)}"',
        new='return ""',
        test="tests/serving/test_health.py::test_a_vm_is_not_live_before_it_first_serves",
    ),
    Fault(
        name="health is 200 with Triton gone",
        file="serving/health.py",
        old='        if self.triton:\n            return f"Triton: {self.triton}"\n',
        new="",
        test="tests/serving/test_health.py::test_triton_going_away_is_not_serving_at_once_and_no_gpu_takes_requests",
    ),
    Fault(
        name="stale status counts as healthy",
        file="serving/health.py",
        old="if age <= STALE_S:",
        new="if age <= DEAD_S:",
        test="tests/serving/test_health.py::test_a_stale_status_is_not_serving_and_in_the_end_not_live",
    ),
    Fault(
        name="gateway answers health with 200 whatever the supervisor says",
        file="serving/gateway/rest_v1.py",
        old='return Answer.of(HTTPStatus.SERVICE_UNAVAILABLE, {"error": status.reason} | document)',
        new='return Answer.of(HTTPStatus.OK, {"error": status.reason} | document)',
        test="tests/serving/test_gateway.py::test_health_and_liveness_follow_the_supervisor",
    ),
    Fault(
        name="gateway sends requests to a GPU whose canaries fail",
        file="serving/gateway/router.py",
        old="[gpu for gpu in self._status().gpus if gpu in self._outstanding and gpu not in tried]",
        new="[gpu for gpu in self._outstanding if gpu not in tried]",
        test="tests/serving/test_router.py::test_gpus_whose_canaries_fail_get_nothing",
    ),
    Fault(
        name="no 503 when no GPU answers",
        file="serving/gateway/router.py",
        old='raise unavailable(reason or self._status().reason or "no GPU is ready")',
        new='raise bad_request(reason or self._status().reason or "no GPU is ready")',
        test="tests/serving/test_router.py::test_without_gpus_the_supervisors_reason_is_the_answer",
    ),
    Fault(
        name="drain begins again after an early notice",
        file="serving/drain.py",
        old="(hurry, began + drain_s - clock())",
        new="(hurry, drain_s)",
        test="tests/serving/test_drain.py::test_a_drain_that_began_with_a_notice_is_not_begun_again",
    ),
    Fault(
        name="Triton is stopped before the requests in flight are answered",
        file="serving/drain.py",
        old="    stop_listening()\n",
        new="    stop_listening()\n    await triton.stop(TRITON_GRACE_S)\n",
        test="tests/serving/test_drain.py::test_it_serves_on_for_twelve_seconds_and_triton_goes_last",
    ),
    Fault(
        name="the last of equal keys counts",
        file="serving/gateway/json_text.py",
        old="return dict(reversed(pairs)) if",
        new="return dict(pairs) if",
        test="tests/serving/test_rest_v1.py::test_a_request_is_understood_as_its_source_says",
    ),
    Fault(
        name="NaN is answered as null",
        file="serving/gateway/elements.py",
        old="return array if np.isfinite(array).all() else [numbers(row) for row in array]",
        new="return array",
        test="tests/serving/test_rest_v1.py::test_an_answer_is_written_as_its_source_says",
    ),
    Fault(
        name="a gzip bomb is inflated before it is measured",
        file="serving/gateway/compression.py",
        old="inflater.decompress(rest, min(_STEP_BYTES, limit + 1 - size))",
        new="inflater.decompress(rest)",
        test="tests/serving/test_compression.py::test_a_bomb_is_inflated_no_further_than_its_limit",
    ),
    Fault(
        name="binary outputs follow in the signature's order, whatever was asked",
        file="serving/gateway/infer.py",
        old="            tail.append(raw)",
        new="            tail.insert(0, raw)",
        test="tests/serving/test_open_inference.py::test_photos_in_binary_answered_in_binary",
    ),
    Fault(
        name="the access log samples failures too",
        file="serving/gateway/access_log.py",
        old="if not (self._may_log_error() if failed else self._draw() < self._sample):",
        new="if self._draw() >= self._sample:",
        test="tests/serving/test_access_log.py::test_failures_are_logged_whatever_the_sample_within_a_bound_a_second",
    ),
    Fault(
        name="a request that offers HTTP/2 loses its body",
        file="serving/gateway/protocol.py",
        old="return bool(self.parser.should_upgrade()) and",
        new="return False and",
        test="tests/serving/test_upgrade.py::test_a_request_that_offers_another_protocol_is_answered_in_this_one",
    ),
    Fault(
        name="one request's values are its neighbours' error",
        file="serving/triton_model.py",
        old="            if len(requests) > 1:\n",
        new="            if False:\n",
        test="tests/serving/test_triton_model.py::test_values_that_a_node_refuses_are_one_requests_fault_and_not_its_neighbours",
    ),
    Fault(
        name="values that a node refuses are the server's fault",
        file="serving/triton_model.py",
        old="pb.TritonError(text, pb.TritonError.INVALID_ARG)",
        new="pb.TritonError(text)",
        test="tests/serving/test_triton_model.py::test_values_that_a_node_refuses_are_one_requests_fault_and_not_its_neighbours",
    ),
)

STRESS = (
    Fault(
        name="places in the queue do not follow the pace",
        file="serving/gateway/admission.py",
        old="if before >= ALWAYS_ADMITTED and wait_s > patience_s:",
        new="if before >= 10 * ALWAYS_ADMITTED:",
        test="tests/serving/test_admission.py::test_places_follow_the_pace_and_the_queue_deadline",
    ),
    Fault(
        name="requests that were not answered quicken the pace",
        file="serving/gateway/admission.py",
        old="if answered and self.images >= ALWAYS_ADMITTED:",
        new="if self.images >= ALWAYS_ADMITTED:",
        test="tests/serving/test_admission.py::test_what_was_not_answered_tells_nothing_of_the_pace",
    ),
    Fault(
        name="the rest of a refused body is taken for the next request",
        file="serving/gateway/app.py",
        old="if self._status().draining or not arrived:",
        new="if self._status().draining:",
        test="tests/serving/test_body.py::test_a_refused_body_that_does_not_arrive_ends_the_connection_after_the_answer",
    ),
    Fault(
        name="a slow body has a place in the queue",
        file="serving/gateway/inference.py",
        old="        with self._admission.admit(patience) as place:\n",
        new="        with self._admission.admit(patience) as place:\n            place.grow(1)\n",
        test="tests/serving/test_body.py::test_a_slow_body_is_408_and_holds_only_what_it_sent",
    ),
    Fault(
        name="a head may grow without limit",
        file="serving/gateway/protocol.py",
        old="self._head_bytes += len(data) if continued else 0",
        new="self._head_bytes += 0",
        test="tests/serving/test_protocol.py::test_what_is_no_request_is_answered_in_json_and_the_connection_ended",
    ),
    Fault(
        name="a request with a million values is parsed",
        file="serving/gateway/json_text.py",
        old='body.count(b",") > most_commas:',
        new='body.count(b"|") > most_commas:',
        test="tests/serving/test_size.py::test_more_is_refused_unparsed",
    ),
    Fault(
        name="a request that waited too long is tried on the next GPU",
        file="serving/gateway/router.py",
        old="if error.code == grpc.StatusCode.UNAVAILABLE and WAITED in str(error):",
        new="if error.code == grpc.StatusCode.CANCELLED and WAITED in str(error):",
        test="tests/serving/test_router.py::"
        "test_a_request_that_waited_too_long_for_a_gpu_is_refused_and_tried_nowhere_else",
    ),
    Fault(
        name="a refused request's body waits for the garbage collector",
        file="serving/gateway/app.py",
        old="            answer = error.answer()\n            without_frames(error)\n",
        new="            answer = error.answer()\n",
        test="tests/serving/test_garbage.py::test_an_answered_request_leaves_no_cycles",
    ),
)

STARTUP = (
    Fault(
        name="code bundle's digest is not checked",
        file="startup/serving.sh",
        old='[[ $found == "$expected" ]] ||',
        new="[[ -n $found ]] ||",
        test="tests/serving/test_scripts.py::test_a_damaged_bundle_is_refused_naming_both_digests",
    ),
    Fault(
        name="builder's code bundle is not checked",
        file="startup/builder.sh",
        old='[[ $found == "$expected" ]] ||',
        new="[[ -n $found ]] ||",
        test="tests/model/test_run_script.py::test_what_fails_before_the_build_is_told_in_one_line",
    ),
    Fault(
        name="builder stays on, and is paid for, when it fails",
        file="startup/builder.sh",
        old="    trap finish EXIT\n",
        new="",
        test="tests/model/test_run_script.py::test_a_failure_that_cannot_be_told_powers_off_all_the_same",
    ),
    Fault(
        name="builder builds what is published already",
        file="startup/builder.sh",
        old='if download "$manifest" /dev/null; then',
        new="if [[ -d $state/artifact ]]; then",
        test="tests/model/test_run_script.py::test_a_published_artifact_is_not_built_again",
    ),
    Fault(
        name="first 403 of the storage is taken for a verdict",
        file="startup/serving.sh",
        old="deadline=$((SECONDS + 600)) token",
        new="deadline=$SECONDS token",
        test="tests/serving/test_scripts.py::test_storage_that_refuses_at_first_is_asked_again",
    ),
    Fault(
        name="wheels are installed without their hashes",
        file="startup/install.sh",
        old=" --require-hashes -r",
        new=" -r",
        test="tests/serving/test_scripts.py::test_the_container_gets_exactly_the_locked_wheels",
    ),
    Fault(
        name="serving unit is not started again when it dies",
        file="startup/serving.sh",
        old="--property=Restart=always ",
        new="",
        test="tests/serving/test_scripts.py::test_a_first_boot_ends_with_one_unit_that_serves",
    ),
)

CLIENT = (
    Fault(
        name="wait ignores the balancer's health",
        file="client/rollout.py",
        old='    if state == "HEALTHY":\n',
        new='    if instance.instance_status == "RUNNING":\n',
        test="tests/client/test_rollout.py::test_vm_without_a_probe_or_with_a_bad_one_is_named",
    ),
    Fault(
        name="wait takes a new group that is still empty for done",
        file="client/rollout.py",
        old="if manager.target_size < smallest:",
        new="if 0 < manager.target_size < smallest:",
        test="tests/client/test_rollout.py::test_new_group_that_is_stable_because_it_is_empty_has_not_arrived",
    ),
    Fault(
        name="predict exits with 0 on 503",
        file="client/__main__.py",
        old='print(f"error: {error}", file=sys.stderr)\n        return FAILED',
        new='print(f"error: {error}", file=sys.stderr)\n        return 0',
        test="tests/client/test_predict.py::test_refusal_is_one_line_with_reason_and_next_step",
    ),
    Fault(
        name="predict repeats a POST that was refused",
        file="client/api.py",
        old="        if response.ok:\n            return response\n",
        new="        if response.status_code == 503:\n"
        "            response = self._session.request(method, url, data=body, headers=headers)\n"
        "        if response.ok:\n            return response\n",
        test="tests/client/test_predict.py::test_refusal_is_one_line_with_reason_and_next_step",
    ),
)

SANDBOX = (
    Fault(
        name="balancer tries a POST again",
        file="sandbox/balancer/config.py",
        old='("GET", "HEAD", "OPTIONS")',
        new='("GET", "HEAD", "OPTIONS", "POST")',
        test="tests/sandbox_control/test_envoy_config.py::test_timeouts_keep_alive_and_retries_are_googles",
    ),
    Fault(
        name="balancer keeps unhealthy endpoints",
        file="sandbox/balancer/chain.py",
        old='return record is not None and record.state == "HEALTHY"',
        new="return record is not None",
        test="tests/sandbox_control/test_envoy_config.py::test_only_healthy_instances_that_stay_are_endpoints",
    ),
    Fault(
        name="firewall: an allow wins a tie over a deny",
        file="sandbox/network/firewall.py",
        old='(rule.priority, rule.action == "allow", rule.name)',
        new='(rule.priority, rule.action == "deny", rule.name)',
        test="tests/sandbox_control/test_firewall.py::test_refuses_and_names_the_rule",
    ),
    Fault(
        name="storage tells a caller without list permission what is missing",
        file="sandbox/storage/proxy.py",
        old="            if error.code == 404:\n"
        "                # Whoever may not list must not learn which objects there are.\n"
        '                self._access.require(caller, "storage.objects.list", bucket)\n',
        new="",
        test="tests/sandbox_machine/test_storage.py::test_missing_object_is_told_only_to_those_who_may_list",
    ),
    Fault(
        name="storage ignores ifGenerationMatch",
        file="sandbox/storage/preconditions.py",
        old="pairs = ((self.generation_match, generation), (self.metageneration_match, metageneration))",
        new="pairs = ((self.metageneration_match, metageneration),)",
        test="tests/sandbox_machine/test_storage_rules.py::test_preconditions",
    ),
    Fault(
        name="IAM: new bindings take effect at once",
        file="sandbox/iam/policy.py",
        old="and binding.created + self._settings.iam_delay_s <= now",
        new="and binding.created <= now",
        test="tests/sandbox_machine/test_iam.py::test_binding_takes_effect_after_the_delay",
    ),
    Fault(
        name="autoscaler follows the least of its signals",
        file="sandbox/compute/scaling.py",
        old="need = max(needs, default=current)",
        new="need = min(needs, default=current)",
        test="tests/sandbox_control/test_scaling.py::test_the_greatest_need_of_all_signals_counts",
    ),
    Fault(
        name="autoscaler scales in without its control",
        file="sandbox/compute/scaling.py",
        old="size = max(size, min(current, peak - policy.scale_in.allowed(peak)))",
        new="size = max(size, policy.minimum)",
        test="tests/sandbox_control/test_scaling.py::test_the_scale_in_control_limits_the_loss_within_its_window",
    ),
    Fault(
        name="autoscaler counts VMs that are still starting",
        file="sandbox/compute/scaling.py",
        old="if vm.running_since and vm.running_since <= mature}",
        new="if vm.running_since}",
        test="tests/sandbox_control/test_scaling.py::test_vms_that_initialise_do_not_count_for_scaling_out",
    ),
    Fault(
        name="rollout takes old VMs before new ones are available",
        file="sandbox/compute/rollout.py",
        old="floor = view.want.size - view.want.group.update.max_unavailable",
        new="floor = 0",
        test="tests/sandbox_control/test_rollout.py::test_old_instances_stay_while_new_ones_never_get_healthy",
    ),
    Fault(
        name="autohealing strikes within the initial delay",
        file="sandbox/compute/rollout.py",
        old="mature = member.lived or now >= member.running_since + healing.initial_delay_s",
        new="mature = True",
        test="tests/sandbox_control/test_rollout.py::test_failures_within_the_initial_delay_are_ignored",
    ),
    Fault(
        name="changed metadata does not replace a template",
        file="sandbox/provider/types/compute.InstanceTemplate.json",
        old='"metadata": {"type": "map", "of": "string", "optional": true, "replaces": true}',
        new='"metadata": {"type": "map", "of": "string", "optional": true}',
        test="tests/sandbox_provider/test_rules.py::test_what_replaces_by_a_rule_in_code",
    ),
    Fault(
        name="a property that nobody modelled is silently accepted",
        file="sandbox/provider/check.py",
        old='yield Failure(path, f"the sandbox does not model {path} of {what}: remove it to deploy here")',
        new="continue",
        test="tests/sandbox_provider/test_every_property.py::test_an_unmodelled_property_is_refused_as_such_at_every_depth",
    ),
    Fault(
        name="a resource in use can be deleted",
        file="sandbox/provider/kinds/compute.py",
        old='Reference(path="versions[].instanceTemplate", targets=(TEMPLATE,)),',
        new='Reference(path="versions[].instanceTemplate", targets=(TEMPLATE,), holds=False),',
        test="tests/sandbox_provider/test_life.py::test_what_another_resource_uses_cannot_be_deleted",
    ),
    Fault(
        name="processes of VMs without a record outlive a take-over",
        file="sandbox/machine/host.py",
        old="        await self._end_strays()\n",
        new="",
        test="tests/sandbox_machine/test_host.py::test_what_died_without_a_daemon_is_found_dead_and_strays_are_ended",
    ),
)

CONTRACT = (
    Fault(
        name="half of a range of Google's probes",
        file="contract.py",
        old='"35.191.0.0/16"',
        new='"35.191.0.0/17"',
        test=f"{_EVERY_STACK}::test_only_the_balancer_and_its_probes_reach_the_vms_and_only_the_api",
    ),
    Fault(
        name="a metadata key that the startup script does not know",
        file="contract.py",
        old='CODE_SHA256_KEY: Final = "fleet-code-sha256"',
        new='CODE_SHA256_KEY: Final = "fleet-code-digest"',
        test="tests/serving/test_scripts.py::test_the_scripts_use_the_contracts_names",
    ),
    Fault(
        name="a VM leaves rotation later than its drain lasts",
        file="contract.py",
        old="PROBES_TO_UNHEALTHY: Final = 2",
        new="PROBES_TO_UNHEALTHY: Final = 4",
        test="tests/serving/test_metadata.py::test_a_vm_drains_until_the_balancer_has_seen_it",
    ),
)

DOCS = (
    Fault(
        name="a page names a make target that does not exist",
        file="docs/test-locally.md",
        old="make demo\nmake status\n",
        new="make demo\nmake fleet-status\n",
        test="tests/docs/test_docs.py::test_every_make_target_exists",
    ),
    Fault(
        name="a page names a setting that does not exist",
        file="docs/configure.md",
        old="(shortened: `fleet.image`",
        new="(shortened: `fleet.images`",
        test="tests/docs/test_docs.py::test_every_setting_exists",
    ),
)

PLANS = (
    Fault(
        name="layers of an INT8 plan that are not quantised run in FP32",
        file="model/plan/builder.py",
        old='"int8": ("INT8", "FP16")',
        new='"int8": ("INT8",)',
        test="tests/model/test_plans.py::test_one_builder_builds_every_precision_and_form_and_int8_comes_first",
    ),
    Fault(
        name="timings of another GPU are used",
        file="model/plan/timing_cache.py",
        old="config.set_timing_cache(cache, ignore_mismatch=False):",
        new="config.set_timing_cache(cache, ignore_mismatch=True):",
        test="tests/model/test_plans.py::test_timings_of_another_gpu_or_none_at_all_are_not_used",
    ),
    Fault(
        name="a reformat between convolutions is no finding",
        file="model/plan/inspection.py",
        old="if after.is_convolution or after.is_pointwise:",
        new="if after.is_pointwise:",
        test="tests/model/test_inspection.py::test_every_detour_and_every_convolution_in_floats_is_a_finding",
    ),
    Fault(
        name="plans of another TensorRT are loaded",
        file="serving/plans.py",
        old="return here is None or built_by.split",
        new="return True or built_by.split",
        test="tests/serving/test_plans.py::TestChoice::test_another_gpu_or_another_tensorrt_means_plans_of_the_vms_own",
    ),
    Fault(
        name="Triton is told of one profile only",
        file="serving/triton_config.py",
        old="for index in range(len(profiles)))",
        new="for index in range(1))",
        test="tests/serving/test_triton_config.py::TestOnAGpu::test_two_instances_run_every_profile_on_its_own_gpu",
    ),
)

COMPARISON = (
    Fault(
        name="a percentile of too few calls is told",
        file="model/report/content.py",
        old="if len(self.calls) < MIN_P99_CALLS:",
        new="if len(self.calls) < 2:",
        test="tests/model/test_report.py::test_a_99th_percentile_is_told_only_of_enough_calls",
    ),
    Fault(
        name="a speed-up compares different batch sizes",
        file="model/report/content.py",
        old='== ("native", row.batch, row.preprocessing):',
        new='[::2] == ("native", row.preprocessing):',
        test="tests/model/test_report.py::test_a_speed_up_compares_equal_batches_and_equal_preprocessing",
    ),
    Fault(
        name="rows are timed one after the other, not in turns",
        file="model/compare/timing.py",
        old="for setting in settings for name in rows]",
        new="for name in rows for setting in settings]",
        test="tests/model/test_compare.py::test_repetitions_of_all_rows_take_turns",
    ),
    Fault(
        name="the first way to run TensorFlow is taken for the fastest",
        file="model/compare/benchmark.py",
        old="winner = max(rates, key=lambda spec: rates[spec])",
        new="winner = next(iter(rates))",
        test="tests/model/test_compare.py::test_the_fastest_way_to_run_tensorflow_is_the_native_row_at_each_batch",
    ),
    Fault(
        name="decoding is left out of a call that begins with photos",
        file="model/compare/feed.py",
        old="return self.decode if preprocessing else self.ready",
        new="return self.ready",
        test="tests/model/test_compare.py::test_preprocessing_is_part_of_a_call_only_where_it_is_asked_for",
    ),
)

QUANTISATION = (
    Fault(
        name="inputs of a concatenation have scales of their own",
        file="model/quantise/int8.py",
        old="    return {tensor: hulls[groups.get(tensor, tensor)] for tensor in ranges}",
        new="    return dict(ranges)",
        test="tests/model/test_placement.py::test_a_concatenation_has_one_scale_on_every_input_and_on_its_output",
    ),
    Fault(
        name="an activation that is an output is left to saturation",
        file="model/quantise/int8.py",
        old="    seen = graph.is_output(tensor) or ",
        new="    seen = ",
        test="tests/model/test_placement.py::test_an_activation_that_others_see_is_not_left_to_saturation",
    ),
    Fault(
        name="equalisation scales through a ReLU6",
        file="model/quantise/equalisation.py",
        old='frozenset({"Relu", ',
        new='frozenset({"Clip", "Relu", ',
        test="tests/model/test_noise.py::test_tensors_at_a_relu6_keep_their_scale",
    ),
    Fault(
        name="bias correction doubles the error",
        file="model/quantise/bias_correction.py",
        old="_add_to_bias(graph, node, -errors[node.name])",
        new="_add_to_bias(graph, node, errors[node.name])",
        test="tests/model/test_noise.py::test_bias_correction_takes_the_mean_error_out_of_every_layer",
    ),
    Fault(
        name="a repair keeps the least sensitive layers float",
        file="model/quantise/repair.py",
        old="key=lambda layer: layer.sqnr_db",
        new="key=lambda layer: -layer.sqnr_db",
        test="tests/model/test_noise.py::test_a_repair_keeps_exactly_the_planted_layers_float",
    ),
    Fault(
        name="zeros win over negative values in a pool",
        file="model/quantise/folding.py",
        old="len(taker.output) == 1 and _never_negative(graph, pad.input[0])",
        new="len(taker.output) == 1",
        test="tests/model/test_folding.py::test_padding_of_values_that_may_be_negative_stays",
    ),
    Fault(
        name="calibration holds on to what it has seen",
        file="model/quantise/statistics.py",
        old="        for name in self._tensors:\n            yield name, values.pop(name)",
        new="        self.__dict__.setdefault('kept', []).append(dict(values))\n"
        "        for name in self._tensors:\n            yield name, values.pop(name)",
        test="tests/model/test_calibration_memory.py::test_memory_does_not_grow_with_the_calibration_set",
    ),
    Fault(
        name="the sum of a shortcut stays the bias of a Gemm",
        file="model/quantise/folding.py",
        old="        _part_computed_bias,\n",
        new="",
        test="tests/model/test_folding.py::test_a_shortcut_that_a_gemm_adds_is_no_bias",
    ),
)

SOURCES: tuple[Fault, ...] = (
    Fault(
        name="an object that was replaced since is used",
        file="artifact/storage.py",
        old="if stored.generation is not None and blob.generation != stored.generation:",
        new="if False:",
        test="tests/model/test_fetch.py::test_a_replaced_object_is_not_used",
    ),
    Fault(
        name="a folder's key depends on where it lies",
        file="artifact/source.py",
        old="member = tarfile.TarInfo(path.relative_to(folder).as_posix())",
        new="member = tarfile.TarInfo(path.as_posix())",
        test="tests/artifact/test_source.py::test_a_folder_is_its_content_wherever_and_whenever_it_lies",
    ),
    Fault(
        name="kernels in planes are given strides of rows",
        file="model/export/layout.py",
        old='_PER_AXIS: Final = {"strides": 1, "dilations": 1,',
        new='_PER_AXIS: Final = {"dilations": 1,',
        test="tests/model/test_custom_models.py::test_transposed_kernels_answer_as_those_in_planes_do",
    ),
    Fault(
        name="a loop is left to the converter",
        file="model/export/checks.py",
        old='(_LOOPS, "loops or branches", ',
        new='(frozenset(), "loops or branches", ',
        test="tests/model/test_custom_models.py::test_what_cannot_be_converted_is_named_with_a_remedy",
    ),
    Fault(
        name="the class of a background is counted among the labels",
        file="model/source/custom.py",
        old="return int(classes == BACKGROUND_CLASSES) if wanted is None else wanted",
        new="return 0 if wanted is None else wanted",
        test="tests/model/test_custom_models.py::test_a_thousand_classes_and_one_for_the_background",
    ),
    Fault(
        name="blue stays first",
        file="model/source/keras_application.py",
        old="kernel[:, :, ::-1, :]",
        new="kernel",
        test="tests/model/test_keras_application.py::test_a_network_that_takes_blue_first_answers_the_same_to_red_first",
    ),
    Fault(
        name="rows of tensors are read from the start again",
        file="model/source/calibration.py",
        old="skipped = self.offset + start * length * self.dtype.itemsize",
        new="skipped = self.offset",
        test="tests/model/test_calibration_sets.py::test_rows_of_tensors_are_read_in_the_order_of_the_inputs",
    ),
    Fault(
        name="an array that ends too early is taken",
        file="model/source/calibration.py",
        old="    if held < said:\n",
        new="    if held < 0:\n",
        test="tests/model/test_calibration_sets.py::test_an_array_that_ends_too_early_is_refused_as_its_rows_are_missing",
    ),
    Fault(
        name="an output that a node of a frozen graph does not have is taken",
        file="model/export/frozen.py",
        old="int(index) < len(outputs)):",
        new="int(index) >= 0):",
        test="tests/model/test_custom_models.py::test_a_tensor_that_a_frozen_graph_does_not_have_is_named_with_those_that_it_has",
    ),
    Fault(
        name="the builder is not told where its model was uploaded to",
        file="components/vm_metadata.py",
        old="uploaded(wanted(settings), sent).model_dump_json()",
        new="wanted(settings).model_dump_json()",
        test="tests/program/test_components.py::TestBuilder::test_a_model_of_this_machine_is_uploaded_under_its_content_and_keeps_its_key",
    ),
)

_STEPS = "tests/artifact/test_steps.py"
_JPEG_MODELS = "tests/model/test_jpeg_models.py"

JPEG_MODELS = (
    Fault(
        name="sides are scaled exactly where the model's graph has float32",
        file="artifact/geometry.py",
        old='if step.arithmetic == "integer":',
        new='if step.arithmetic != "divide":',
        test=f"{_STEPS}::test_a_short_side_is_computed_in_float32_as_the_official_resnet_does",
    ),
    Fault(
        name="a crop behind a resize is taken from the corner",
        file="artifact/preprocessing.py",
        old="(height, size.height), window.top, window.top + window.height)",
        new="(height, size.height), 0, window.height)",
        test=f"{_STEPS}::test_cropping_while_resizing_is_cropping_after_it",
    ),
    Fault(
        name="pictures are decoded small though a crop counts their pixels",
        file="artifact/preprocessing.py",
        old="        if not isinstance(step, Resize):\n            return False",
        new="        if not isinstance(step, Resize):\n            continue",
        test=f"{_STEPS}::test_scaled_decoding_keeps_enough_pixels_for_the_steps",
    ),
    Fault(
        name="floats are cut off where the model rounds",
        file="artifact/preprocessing.py",
        old='np.rint(pixels) if prep.to_bytes == "nearest" else',
        new='np.rint(pixels) if prep.to_bytes == "" else',
        test=f"{_STEPS}::test_floats_become_bytes_by_rounding_or_as_the_model_does",
    ),
    Fault(
        name="any agreement of encoded photos passes",
        file="model/evaluate/jpeg_gate.py",
        old="passed=self.agreement >= MIN_JPEG_AGREEMENT,",
        new="passed=True,",
        test="tests/model/test_jpeg_gate.py::test_one_photo_in_twenty_may_change_its_class",
    ),
    Fault(
        name="JPEGs are decoded with libjpeg's accurate DCT, which TensorFlow does not use",
        file="model/source/jpeg/cut.py",
        old='"dct": "accurate" if accurate else "fast"',
        new='"dct": "accurate"',
        test=f"{_JPEG_MODELS}::test_preprocessing_is_read_and_the_rest_answers_as_the_whole",
    ),
    Fault(
        name="a preprocessing that was misread is taken",
        file="model/source/jpeg/cut.py",
        old="if difference.floats > MAX_PIXEL_DIFFERENCE:",
        new="if difference.floats > 255 * MAX_PIXEL_DIFFERENCE * 100:",
        test=f"{_JPEG_MODELS}::test_what_is_not_recognised_says_why_and_where_the_graph_can_be_cut",
    ),
)

SPEED = (
    Fault(
        name="a batch is not shared out over the cores",
        file="serving/triton_model.py",
        old="shares = min(count, self._threads * rounds)",
        new="shares = 1",
        test="tests/serving/test_triton_model.py::test_one_image_has_all_cores_and_of_several_each_core_has_a_share",
    ),
    Fault(
        name="a graph of a fixed batch is cut",
        file="serving/triton_model.py",
        old='self._threads > 1 and config["max_batch_size"] > 0',
        new="self._threads > 1",
        test="tests/serving/test_triton_model.py::test_a_graph_of_a_fixed_batch_is_never_cut",
    ),
    Fault(
        name="requests that take numbers are not searched for true and false",
        file="serving/gateway/predict.py",
        old='takes_numbers = any(spec.dtype not in ("bool", "string")',
        new='takes_numbers = any(spec.dtype in ("bool", "string")',
        test="tests/serving/test_predict.py::test_a_bad_tensor_is_named_by_its_index",
    ),
    Fault(
        name="the benchmark's bound is on the wrong side",
        file="benchmarks/serving/comparison/statistics.py",
        old="statistics.fmean(logs) - _T_95[len(logs) - 1] * error",
        new="statistics.fmean(logs) + _T_95[len(logs) - 1] * error",
        test="tests/serving/test_comparison.py::test_the_bound_is_that_of_students_t",
    ),
    Fault(
        name="a core runs its whole share of a large batch at once",
        file="serving/triton_model.py",
        old="rounds = -(-count // (self._threads * _AT_ONCE))",
        new="rounds = 1",
        test="tests/serving/test_triton_model.py::test_a_large_batch_is_cut_into_small_shares_as_many_for_each_core",
    ),
)

FAULTS: tuple[Fault, ...] = (
    *COMPONENTS,
    *ARTIFACT,
    *SOURCES,
    *MODEL,
    *QUANTISATION,
    *PLANS,
    *JPEG_MODELS,
    *COMPARISON,
    *SERVING,
    *STRESS,
    *SPEED,
    *STARTUP,
    *CLIENT,
    *SANDBOX,
    *CONTRACT,
    *DOCS,
)
