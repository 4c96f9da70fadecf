{{- define "maleo.labels" -}}
app.kubernetes.io/name: {{ .name }}
app.kubernetes.io/part-of: maleo
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- end -}}

{{- /* Criticality of a mission -> PriorityClass of its slots, as JSON. */ -}}
{{- define "maleo.slotClasses" -}}
{{- with .Values.slots.priorityClasses -}}
{{- dict "Safety" .safety.name "Mission" .mission.name "BestEffort" .bestEffort.name | toJson -}}
{{- end -}}
{{- end -}}

{{- define "maleo.isOperator" -}}
request.userInfo.username == 'system:serviceaccount:{{ .Release.Namespace }}:maleo-operator'
{{- end -}}

{{- /* Those of watchNamespaces that exist, as JSON: Helm makes nothing at all where one Role has no namespace. Without a
cluster to ask, as in `helm template`, all of them. */ -}}
{{- define "maleo.boundNamespaces" -}}
{{- $names := list -}}
{{- range .Values.watchNamespaces -}}
{{- if or (lookup "v1" "Namespace" "" .) (eq . $.Release.Namespace) (not (lookup "v1" "Namespace" "" "default")) -}}
{{- $names = append $names . -}}
{{- end -}}
{{- end -}}
{{- toJson $names -}}
{{- end -}}
